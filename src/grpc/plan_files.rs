//! Plans in files: see [`PlanFiles`].

use serde_json::Value;

use super::convert::plans;
use super::json;
use crate::catalog::Stored;
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::service::plan_files::{FromFile, PlanFiles};
use crate::yaml;

/// JSON by the descriptors of `tollgate.v1`, and what it takes of OCI's.
#[derive(Clone, Copy, Debug)]
pub struct JsonFiles;

impl PlanFiles for JsonFiles {
    fn read(&self, text: &str) -> Result<FromFile, Vec<Invalid>> {
        let read = json::usage_plan(value(text)?)?;
        Ok(FromFile { plan: plans::plan(read.message)?, notes: read.notes })
    }

    fn write(&self, plan: &Stored<CompiledPlan>) -> Result<String, String> {
        let mut value = json::to_json("tollgate.v1.UsagePlan", &plans::to_wire(plan))?;
        // What the server says of it is no part of the plan: it can be imported elsewhere.
        if let Value::Object(fields) = &mut value {
            for field in ["etag", "revision", "createTime", "updateTime"] {
                fields.remove(field);
            }
        }
        serde_json::to_string_pretty(&value)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string())
    }
}

/// What a file of JSON or YAML holds.
fn value(text: &str) -> Result<Value, Vec<Invalid>> {
    let whole = |reason: String| vec![Invalid::new("", reason)];
    let as_json = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if text.trim_start().starts_with(['{', '[']) {
        return Err(whole(format!("is no JSON: {as_json}")));
    }
    let document = yaml::parse(text).map_err(|error| {
        whole(format!("is neither JSON nor YAML: line {}: {}", error.line, error.reason))
    })?;
    if let Some(repeated) = document.repeated.first() {
        return Err(whole(format!("has a key twice, in line {}", repeated.line)));
    }
    document.root.to_json().map_err(|error| whole(format!("line {}: {}", error.line, error.reason)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decide::plan::PeriodUnit;

    const PLAN: &str = r#"{"id": "gold", "displayName": "Gold", "entitlements": [{"name": "all",
        "targets": ["orders/prod"], "rateLimit": {"requestsPerSecond": 20, "burst": 40},
        "quotas": [{"name": "daily", "limit": 100, "unit": "DAY"}]}]}"#;

    #[test]
    fn a_plan_that_was_written_is_read_again() {
        let read = JsonFiles.read(PLAN).unwrap();
        assert_eq!(read.plan.entitlements[0].quotas[0].unit, PeriodUnit::Day);
        let value = CompiledPlan::new(Arc::new(read.plan.clone())).unwrap();
        let stored = Stored { value, revision: 7, create_ns: 1, update_ns: 2 };
        let written = JsonFiles.write(&stored).unwrap();
        assert!(!written.contains("etag") && !written.contains("revision"), "{written}");
        assert_eq!(JsonFiles.read(&written).unwrap(), read);
        let yaml = "id: gold\ndisplayName: Gold\n";
        assert_eq!(&*JsonFiles.read(yaml).unwrap().plan.id, "gold");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_field() {
        for (text, field) in [
            ("{\"id\": ", ""),
            ("[]", ""),
            ("a: 1\na: 2", ""),
            ("\"text\"", ""),
            ("{\"id\": \"gold\", \"colour\": \"red\"}", "colour"),
            (&PLAN.replace("\"DAY\"", "\"DECADE\""), "entitlements[0].quotas[0].unit"),
            (&PLAN.replace("100", "-1"), "entitlements[0].quotas[0].limit"),
        ] {
            let wrong = JsonFiles.read(text).unwrap_err();
            assert_eq!(wrong[0].field, field, "{text}: {wrong:?}");
        }
    }
}
