use super::*;

#[test]
fn a_value_that_is_taken_for_an_id_is_not_repeated_whole() {
    let text = |id: &str| EditError::not_found(Kind::Key, id).to_string();
    assert_eq!(text("acme-1"), "there is no key `acme-1`");
    assert_eq!(text("nineteen-characters"), "there is no key `nineteen-characters`");
    assert_eq!(text("twenty-characters-ab"), "there is no key `…s-ab`");
    assert_eq!(text(&super::secret::new_value().unwrap()).len(), "there is no key `…abcd`".len());
    let made = super::secret::new_id().unwrap();
    assert_eq!(text(&made), format!("there is no key `{made}`"));
}

#[test]
fn a_made_value_is_found_by_its_bytes_and_shown_once() {
    let store = furnished();
    let mut value = String::new();
    let stored = edit(&store, 2, |draft| {
        let (stored, made) = draft.create_key(key("acme-3", "acme"), NewValue::Made)?;
        value = made;
        Ok(stored)
    });
    assert!(value.starts_with(VALUE_PREFIX) && value.ends_with(&*stored.value.key.last_four));
    assert_eq!(stored.value.key.last_four.len(), 4);
    let catalog = store.snapshot();
    assert_eq!(&*catalog.api_key(value.as_bytes()).unwrap().id, "acme-3");
    assert!(!format!("{catalog:?}").contains(&value), "the value is kept somewhere");
}

#[test]
fn any_bytes_may_be_presented() {
    let store = furnished();
    let catalog = store.snapshot();
    let known = value_of("acme-1");
    assert_eq!(&*catalog.api_key(known.as_bytes()).unwrap().id, "acme-1");
    let mut longer = known.clone().into_bytes();
    longer.push(b' ');
    for presented in [
        &b""[..],
        b"\xff\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &longer,
    ] {
        assert!(catalog.api_key(presented).is_none());
    }
    assert!(catalog.api_key(&known.as_bytes()[1..]).is_none());
    assert!(catalog.api_key(&vec![b'x'; 8 << 20]).is_none());
}

#[test]
fn a_key_without_an_id_gets_one() {
    let store = furnished();
    let unnamed = ApiKey { about: about(""), ..key("", "acme") };
    let made = edit(&store, 2, |draft| {
        draft.create_key(unnamed, NewValue::Made).map(|(stored, _)| stored)
    });
    assert!(made.value.key.id.starts_with("key-"));
    assert_eq!(made.value.display_name(), &*made.value.key.id);
    assert!(store.load().keys_of("acme").any(|id| *id == made.value.key.id));
}

#[test]
fn values_are_checked_and_unique() {
    let store = furnished();
    let import = |value: &str| {
        let value = value.to_owned();
        refused(&store, move |draft| draft.create_key(key("new", "acme"), NewValue::Given(&value)))
    };
    assert_eq!(mistake(import("too-short")).0, "value");
    assert_eq!(mistake(import(&"x".repeat(129))).0, "value");
    assert_eq!(mistake(import("spaces are not allowed here")).0, "value");
    assert_eq!(import(&value_of("acme-1")), EditError::ValueInUse { id: "acme-1".into() });
    edit(&store, 2, |draft| draft.delete_key("acme-1", ""));
    edit(&store, 3, |draft| {
        draft
            .create_key(key("new", "zeta"), NewValue::Given(&value_of("acme-1")))
            .map(|(stored, _)| stored)
    });
    assert_eq!(&*store.load().api_key(value_of("acme-1").as_bytes()).unwrap().subscriber, "zeta");
}

#[test]
fn an_update_keeps_the_value_and_the_subscriber() {
    let store = furnished();
    let disabled = ApiKey {
        enabled: false,
        last_four: LastFour::new("????").unwrap(),
        ..key("acme-1", "acme")
    };
    let updated = edit(&store, 2, |draft| draft.replace_key(disabled));
    assert_eq!(&*updated.value.key.last_four, "more");
    let catalog = store.snapshot();
    assert!(
        !catalog.api_key(value_of("acme-1").as_bytes()).unwrap().enabled,
        "a look-up by value sees the edit"
    );
    assert_eq!(
        mistake(refused(&store, |draft| draft.replace_key(key("acme-1", "zeta")))).0,
        "subscriber"
    );
}

#[test]
fn a_key_needs_a_subscriber() {
    let store = furnished();
    let (field, reason) =
        mistake(refused(&store, |draft| draft.create_key(key("k", "nobody"), NewValue::Made)));
    assert_eq!((field.as_str(), reason.as_str()), ("subscriber", "`nobody` does not exist"));
}
