//! Where settings come from, and reading them out typed, with the mistakes collected.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use config::{File, FileFormat, Map, Source, Value, ValueKind};

use super::SETTINGS;
use super::names::{near_key, variable};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// A settings file.
    pub file: Option<PathBuf>,
    /// Key and value.
    pub settings: Vec<(&'static str, String)>,
}

/// Values of one origin.
#[derive(Clone, Debug, Default)]
struct Layer(Vec<(String, String, String)>);

impl Layer {
    fn set(&mut self, key: &str, value: String, origin: &str) {
        self.0.push((key.to_owned(), value, origin.to_owned()));
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.iter().map(|(key, value, origin)| (key.clone(), Value::new(Some(origin), value.clone()))).collect())
    }
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
        let mut environment = aliases(env, &mut mistakes);
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
                    origins.extend(layer.0.iter().map(|(key, _, origin)| (key.clone(), origin.clone())));
                    mistakes.extend(layer.0.iter().filter(|(key, ..)| !SETTINGS.iter().any(|setting| setting.key == key)).map(
                        |(key, _, origin)| {
                            format!("{origin}: there is no setting `{key}`{}; see the table of settings in the README", near_key(key))
                        },
                    ));
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
        self.text(key).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.checked(key, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "on" => Ok(true),
            "false" | "f" | "0" | "no" | "off" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        })
    }

    pub(super) fn number<N: FromStr + PartialOrd + std::fmt::Display + Copy>(&mut self, key: &str, range: RangeInclusive<N>) -> N {
        let lowest = *range.start();
        let (low, high) = (lowest, *range.end());
        self.try_checked(key, |text| match text.parse::<N>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {low} to {high}")),
        })
        .unwrap_or(lowest)
    }

    /// `None` where it is empty, or wrong.
    pub(super) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        if self.text(key).is_empty() {
            return None;
        }
        self.try_checked(key, |text| {
            match text.strip_prefix("localhost:") {
                Some(port) => port.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(drop),
                None => text.parse().map_err(drop),
            }
            .map_err(|()| "must be an address and a port, such as 127.0.0.1:8081".to_owned())
        })
    }

    /// The value that a word stands for.
    pub(super) fn one_of<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.try_checked(key, |text| {
            let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| format!("must be {known}"))
        })
    }

    pub(super) fn header(&mut self, key: &str) -> String {
        self.checked(key, |text| match axum::http::HeaderName::from_str(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("must be the name of an HTTP header".to_owned()),
        })
    }

    /// Where it is wrong, the mistake is noted and some value stands in for it that is never used.
    pub(super) fn checked<T: Default>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> T {
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

/// A settings file, flattened to dotted keys. Lists become comma-separated texts.
fn read_file(path: &std::path::Path) -> Result<Layer, String> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: cannot be read: {error}"))?;
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        _ => FileFormat::Yaml,
    };
    let values = File::from_str(&text, format).collect().map_err(|error| format!("{origin}: {error}"))?;
    let mut layer = Layer::default();
    flatten("", values, &origin, &mut layer)?;
    Ok(layer)
}

fn flatten(prefix: &str, values: Map<String, Value>, origin: &str, layer: &mut Layer) -> Result<(), String> {
    for (key, value) in values {
        let key = format!("{prefix}{key}");
        match value.kind {
            ValueKind::Table(inner) => flatten(&format!("{key}."), inner, origin, layer)?,
            ValueKind::Array(items) => {
                let items: Result<Vec<String>, _> = items.into_iter().map(Value::into_string).collect();
                let items = items.map_err(|_| format!("{origin}: {key} must be a list of texts"))?;
                layer.set(&key, items.join(","), origin);
            }
            ValueKind::Nil => layer.set(&key, String::new(), origin),
            _ => layer.set(&key, value.into_string().map_err(|error| format!("{origin}: {key}: {error}"))?, origin),
        }
    }
    Ok(())
}

/// The names that users of the reference service have set already, as far as they mean something here.
fn aliases(env: &dyn Fn(&str) -> Option<String>, mistakes: &mut Vec<String>) -> Layer {
    let mut layer = Layer::default();
    let get = |name: &str| env(name).filter(|value| !value.is_empty());
    for (host, port, key, default_port) in [("GRPC_HOST", "GRPC_PORT", "grpc_addr", "8081"), ("HOST", "PORT", "http_addr", "8080")] {
        if get(host).is_some() || get(port).is_some() {
            let address = format!("{}:{}", get(host).unwrap_or("127.0.0.1".into()), get(port).unwrap_or(default_port.into()));
            layer.set(key, address, &format!("{host} and {port}"));
        }
    }
    for (name, key) in [
        ("LOG_LEVEL", "log_level"),
        ("LOG_FORMAT", "log_format"),
        ("RUNTIME_IGNOREDOTFILES", "rules_ignore_dotfiles"),
        ("MERGE_DOMAIN_CONFIG", "rules_merge_domains"),
        ("SHADOW_MODE", "rate_limit.shadow_mode"),
        ("QUOTA_MODE", "rate_limit.quota_mode"),
        ("NEAR_LIMIT_RATIO", "rate_limit.near_limit_ratio"),
        ("RESPONSE_DYNAMIC_METADATA", "rate_limit.dynamic_metadata"),
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "rate_limit.headers"),
        ("LIMIT_LIMIT_HEADER", "rate_limit.limit_header"),
        ("LIMIT_REMAINING_HEADER", "rate_limit.remaining_header"),
        ("LIMIT_RESET_HEADER", "rate_limit.reset_header"),
    ] {
        if let Some(value) = get(name) {
            // The reference writes its levels in capitals, and one of them in full.
            let value = if key == "log_level" { value.to_lowercase().replace("warning", "warn") } else { value };
            layer.set(key, value, name);
        }
    }
    if let Some(root) = get("RUNTIME_ROOT") {
        let parts = [Some(root), get("RUNTIME_SUBDIRECTORY"), Some(get("RUNTIME_APPDIRECTORY").unwrap_or("config".into()))];
        let path: PathBuf = parts.into_iter().flatten().collect();
        layer.set("rules", path.display().to_string(), "RUNTIME_ROOT");
        layer.set("rules_any_extension", "true".to_owned(), "RUNTIME_ROOT");
    }
    let on = |name: &str| get(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "t" | "1"));
    if on("USE_PROMETHEUS") {
        // `:9090` means every address, as it does there.
        let address = get("PROMETHEUS_ADDR").unwrap_or(":9090".into());
        let address = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address };
        layer.set("metrics_addr", address, "PROMETHEUS_ADDR");
    }
    if on("GRPC_SERVER_USE_TLS") {
        for (name, key) in
            [("GRPC_SERVER_TLS_CERT", "tls.cert"), ("GRPC_SERVER_TLS_KEY", "tls.key"), ("GRPC_CLIENT_TLS_CACERT", "tls.client_ca")]
        {
            match get(name) {
                Some(value) => layer.set(key, value, name),
                None if key != "tls.client_ca" => mistakes.push(format!("GRPC_SERVER_USE_TLS is set, so {name} is needed")),
                None => {}
            }
        }
    }
    layer
}
