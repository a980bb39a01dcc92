//! YAML as JSON.

use serde_json::{Map, Number, Value};

use super::{Content, Meaning, Node, Scalar, YamlError};

/// As deep as the tree, which is bounded.
pub(super) fn convert(node: &Node) -> Result<Value, YamlError> {
    match &node.content {
        Content::Scalar(scalar) => scalar_value(scalar, node.line),
        Content::List(items) => {
            items.iter().map(|item| convert(item)).collect::<Result<_, _>>().map(Value::Array)
        }
        Content::Map(entries) => {
            let mut object = Map::new();
            for entry in entries {
                object.insert(entry.key.text.clone(), convert(&entry.value)?);
            }
            Ok(Value::Object(object))
        }
    }
}

fn scalar_value(scalar: &Scalar, line: u32) -> Result<Value, YamlError> {
    Ok(match scalar.meaning {
        Meaning::Null => Value::Null,
        Meaning::Bool(value) => Value::Bool(value),
        Meaning::Int(value) => Value::Number(value.into()),
        Meaning::Uint(value) => Value::Number(value.into()),
        Meaning::Float(value) => match Number::from_f64(value) {
            Some(number) => Value::Number(number),
            None => {
                return Err(YamlError::new(
                    line,
                    format!("`{}` is not a number that JSON has", scalar.text),
                ));
            }
        },
        Meaning::Text => Value::String(scalar.text.clone()),
    })
}
