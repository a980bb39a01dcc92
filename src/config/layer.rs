//! The values of one origin.

use config::{Map, Source, Value};

/// Values of one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(pub(super) Vec<(String, String, String)>);

impl Layer {
    pub(super) fn set(&mut self, key: &str, value: String, origin: &str) {
        self.0.push((key.to_owned(), value, origin.to_owned()));
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self
            .0
            .iter()
            .map(|(key, value, origin)| (key.clone(), Value::new(Some(origin), value.clone())))
            .collect())
    }
}
