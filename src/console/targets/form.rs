//! The form of a target: from a target, and to one.

use crate::console::form::{Form, THERE};
use crate::console::plans::form::{labels, labels_of, methods, put_methods, put_rate, rate};
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{Id, OpenMethod, Said, Target};

/// A form of this target.
pub(super) fn of_target(target: &Target) -> Form {
    let mut form = Form::default();
    form.push("id", &*target.id);
    form.push("display_name", &*target.about.display_name);
    form.push("description", &*target.about.description);
    form.push("labels", labels(&target.about.labels));
    put_rate(&mut form, "rate_limit", target.rate_limit.as_ref());
    put_methods(&mut form, "method_rate_limits", &target.method_rate_limits);
    for (place, call) in target.open_methods.iter().enumerate() {
        let at = format!("open_methods[{place}]");
        form.push(at.clone(), THERE);
        form.push(format!("{at}.method"), &*call.method);
        form.push(format!("{at}.path"), &*call.path);
    }
    form.push("default_plan", target.default_plan.as_deref().unwrap_or_default());
    form
}

/// Takes rows out in which nothing was typed.
pub(super) fn drop_blank(form: &mut Form) {
    form.drop_blank("method_rate_limits", &["method", "path", "requests_per_second", "burst"]);
    form.drop_blank("open_methods", &["method", "path"]);
}

/// The target that a form describes; and what is wrong with it, each mistake by its field.
pub(super) fn to_target(form: &Form, found: &mut Mistakes) -> Target {
    let open = |row| OpenMethod {
        method: form.get(&format!("open_methods[{row}].method")).to_ascii_uppercase(),
        path: form.get(&format!("open_methods[{row}].path")).to_owned(),
    };
    let about = Said {
        display_name: form.get("display_name").to_owned(),
        description: form.get("description").replace("\r\n", "\n"),
        labels: labels_of(form.get("labels"), found),
    };
    let target = Target {
        id: form.get("id").into(),
        about: about.into(),
        rate_limit: rate(form, "rate_limit", found),
        method_rate_limits: methods(form, "method_rate_limits", found),
        open_methods: (0..form.rows("open_methods")).map(open).collect(),
        default_plan: Some(form.get("default_plan")).filter(|id| !id.is_empty()).map(Id::from),
    };
    let mut more = Mistakes::default();
    validate::target(&target, &mut more);
    let known = found.fields();
    for wrong in more.or_else(()).err().unwrap_or_default() {
        if !known.contains(&wrong.field) {
            found.add(wrong.field, wrong.reason);
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gcra::MicroRate;
    use crate::decide::plan::{MethodRate, Rate};

    #[test]
    fn a_target_comes_back_as_it_was_from_its_form() {
        let rate = Rate { rate: MicroRate(500_000), burst: Some(3) };
        let target = Target {
            id: "orders/prod".into(),
            about: Said { description: "x".to_owned(), ..Said::default() }.into(),
            rate_limit: Some(rate),
            method_rate_limits: vec![MethodRate {
                method: "*".to_owned(),
                path: "/a/*".to_owned(),
                target: None,
                rate,
                replaces_general: false,
            }],
            open_methods: vec![OpenMethod { method: "GET".to_owned(), path: "/health".to_owned() }],
            default_plan: Some("free".into()),
        };
        let mut sent = Form::decode(&of_target(&target).encoded());
        drop_blank(&mut sent);
        let mut found = Mistakes::default();
        assert_eq!(to_target(&sent, &mut found), target);
        assert_eq!(found.or_else(()), Ok(()));
    }

    #[test]
    fn mistakes_are_told_by_their_fields_and_empty_rows_are_none() {
        let text = "id=a+b&open_methods[0]=1&open_methods[0].method=get&open_methods[1]=1\
                    &rate_limit.burst=1&method_rate_limits[0]=1";
        let mut form = Form::decode(text);
        drop_blank(&mut form);
        let mut found = Mistakes::default();
        to_target(&form, &mut found);
        let wrong = found.or_else(()).unwrap_err();
        let mut fields: Vec<&str> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["id", "open_methods[0].path", "rate_limit.burst"]);
    }
}
