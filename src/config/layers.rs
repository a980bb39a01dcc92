//! Where settings come from, and reading them out typed, with the mistakes collected.
//!
//! The crate `config` reads a file and lays the layers over each other. The values are then read
//! one by one, and not into a struct by `#[derive(Deserialize)]`: that ends at the first mistake,
//! does not know the file or the variable that a value came from, and cannot say what a setting
//! may be (`must be a whole number from 1 to 1000000`). To collect the mistakes all the same, each
//! field needed a type of its own for its range and a second struct of results, which is longer
//! than one call for each setting.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use config::{File, FileFormat, Map, Source, Value, ValueKind};

use super::layer::Layer;
use super::names::{unknown_key, variable};
use super::{SETTINGS, reference};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// A settings file.
    pub file: Option<PathBuf>,
    /// Key and value.
    pub settings: Vec<(&'static str, String)>,
    /// It takes the place of the reference service: its defaults are meant.
    pub as_ratelimit: bool,
}

pub(super) struct Reader {
    values: config::Config,
    origins: HashMap<String, String>,
    mistakes: Vec<String>,
}

impl Reader {
    pub(super) fn new(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut mistakes = Vec::new();
        let mut origins = HashMap::new();
        let mut defaults = Layer::default();
        for setting in SETTINGS {
            defaults.set(setting.key, setting.default.to_owned(), "default");
        }
        if flags.as_ratelimit {
            for &(key, value) in reference::DEFAULTS {
                defaults.set(key, value.to_owned(), "default of the reference");
            }
        }
        let mut environment = reference::settings(env, flags.as_ratelimit, &mut mistakes);
        for setting in SETTINGS {
            let name = variable(setting.key);
            if let Some(value) = env(&name) {
                environment.set(setting.key, value, &name);
            }
        }
        let mut given = Layer::default();
        for (key, value) in &flags.settings {
            given.set(key, value.clone(), &format!("--{}", key.replace('_', "-")));
        }

        let mut builder = config::Config::builder().add_source(defaults.clone());
        let file = flags.file.clone().or_else(|| env("TOLLGATE_CONFIG").map(PathBuf::from));
        if let Some(path) = &file {
            match read_file(path) {
                Ok(layer) => {
                    origins.extend(
                        layer.0.iter().map(|(key, _, origin)| (key.clone(), origin.clone())),
                    );
                    mistakes.extend(
                        layer
                            .0
                            .iter()
                            .filter(|(key, ..)| !SETTINGS.iter().any(|setting| setting.key == key))
                            .map(|(key, _, origin)| format!("{origin}: {}", unknown_key(key))),
                    );
                    builder = builder.add_source(layer);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        for layer in [environment, given] {
            origins.extend(layer.0.iter().map(|(key, _, origin)| (key.clone(), origin.clone())));
            builder = builder.add_source(layer);
        }
        let values = builder.build().unwrap_or_else(|error| {
            mistakes.push(error.to_string());
            config::Config::default()
        });
        Self { values, origins, mistakes }
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        self.values.get_string(key).unwrap_or_default()
    }

    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        self.text(key)
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.checked(key, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "on" => Ok(true),
            "false" | "f" | "0" | "no" | "off" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        })
    }

    pub(super) fn number<N: FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        key: &str,
        range: RangeInclusive<N>,
    ) -> N {
        let lowest = *range.start();
        let (low, high) = (lowest, *range.end());
        self.try_checked(key, |text| match text.parse::<N>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {low} to {high}")),
        })
        .unwrap_or(lowest)
    }

    /// `None` where it is empty, or wrong. `:8081` is every address of the machine, and a name is
    /// looked up.
    pub(super) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        if self.text(key).is_empty() {
            return None;
        }
        self.try_checked(key, address)
    }

    /// The value that a word stands for.
    pub(super) fn one_of<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.try_checked(key, |text| {
            let known =
                words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("must be {known}"))
        })
    }

    pub(super) fn header(&mut self, key: &str) -> String {
        self.checked(key, |text| match axum::http::HeaderName::from_str(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("must be the name of an HTTP header".to_owned()),
        })
    }

    /// Where it is wrong, the mistake is noted and some value stands in for it that is never used.
    pub(super) fn checked<T: Default>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.try_checked(key, read).unwrap_or_default()
    }

    fn try_checked<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key);
        match read(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let origin = self.origins.get(key).map_or("default", String::as_str);
                self.mistakes.push(format!("{origin}: {key} {reason}, not `{text}`"));
                None
            }
        }
    }

    pub(super) fn mistake(&mut self, mistake: String) {
        self.mistakes.push(mistake);
    }

    pub(super) fn mistakes(self) -> Vec<String> {
        self.mistakes
    }
}

/// An address and a port. Go's listeners are meant by `:8081` and by names.
fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        || "must be an address and a port, such as 127.0.0.1:8081, [::1]:8081 or :8081".to_owned();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    match host {
        "" => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        // More than one colon that is not in brackets.
        host if host.contains([':', '[', ']', '/']) => Err(wrong()),
        host => {
            let found = (host, port)
                .to_socket_addrs()
                .map_err(|error| format!("names a host that cannot be found ({error})"))?;
            found.into_iter().next().ok_or_else(|| "names a host that has no address".to_owned())
        }
    }
}

/// A settings file, flattened to dotted keys. Lists become comma-separated texts.
fn read_file(path: &std::path::Path) -> Result<Layer, String> {
    let origin = path.display().to_string();
    let text = crate::plain_file::read_text(path, "file of settings")
        .map_err(|error| format!("{origin}: cannot be read: {error}"))?;
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        _ => FileFormat::Yaml,
    };
    let values =
        File::from_str(&text, format).collect().map_err(|error| format!("{origin}: {error}"))?;
    let mut layer = Layer::default();
    flatten("", values, &origin, &mut layer)?;
    Ok(layer)
}

fn flatten(
    prefix: &str,
    values: Map<String, Value>,
    origin: &str,
    layer: &mut Layer,
) -> Result<(), String> {
    for (key, value) in values {
        let key = format!("{prefix}{key}");
        match value.kind {
            ValueKind::Table(inner) => flatten(&format!("{key}."), inner, origin, layer)?,
            ValueKind::Array(items) => {
                let items: Result<Vec<String>, _> =
                    items.into_iter().map(Value::into_string).collect();
                let items =
                    items.map_err(|_| format!("{origin}: {key} must be a list of texts"))?;
                layer.set(&key, items.join(","), origin);
            }
            ValueKind::Nil => layer.set(&key, String::new(), origin),
            _ => layer.set(
                &key,
                value.into_string().map_err(|error| format!("{origin}: {key}: {error}"))?,
                origin,
            ),
        }
    }
    Ok(())
}
