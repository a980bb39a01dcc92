use super::*;

on_each![
    a_new_ledger_has_an_empty_catalog_of_revision_0,
    an_edit_of_the_current_revision_is_kept,
    an_edit_of_another_revision_changes_nothing,
    deleted_resources_are_gone,
    of_two_edits_of_one_revision_the_first_wins,
    secrets_stay_what_they_are,
    every_start_of_a_holder_is_another_epoch,
];

fn change(kind: u8, id: &str, value: Option<&[u8]>) -> CatalogChange {
    CatalogChange { kind, id: id.into(), value: value.map(<[u8]>::to_vec) }
}

fn edit(expected: u64, changes: &[CatalogChange]) -> CatalogEdit {
    CatalogEdit { expected, revision: expected + 1, changes: changes.to_vec(), once: None }
}

fn image(bench: &Bench) -> (u64, Vec<(u8, String, Vec<u8>)>) {
    let image = bench.ledger.load_catalog().unwrap();
    (
        image.revision,
        image
            .resources
            .into_iter()
            .map(|resource| (resource.kind, resource.id.to_string(), resource.value))
            .collect(),
    )
}

fn a_new_ledger_has_an_empty_catalog_of_revision_0(bench: &Bench) {
    assert_eq!(image(bench), (0, vec![]));
}

fn an_edit_of_the_current_revision_is_kept(bench: &Bench) {
    let bytes: &[u8] = &[0, 255, 10];
    assert_eq!(
        bench.one(edit(0, &[change(2, "acme", Some(bytes)), change(1, "gold", Some(b"g"))])),
        Ok(1)
    );
    assert_eq!(
        bench.one(edit(1, &[change(1, "gold", Some(b"G")), change(1, "bronze", Some(b""))])),
        Ok(2)
    );
    let kept = vec![
        (1, "bronze".to_owned(), vec![]),
        (1, "gold".to_owned(), b"G".to_vec()),
        (2, "acme".to_owned(), bytes.to_vec()),
    ];
    assert_eq!(image(bench), (2, kept));
}

fn an_edit_of_another_revision_changes_nothing(bench: &Bench) {
    bench.one(edit(0, &[change(1, "gold", Some(b"g"))])).unwrap();
    for stale in [0, 2, u64::MAX - 1] {
        assert_eq!(
            bench.one(edit(stale, &[change(1, "gold", None)])),
            Err(RevisionConflict { current: 1 }),
            "{stale}"
        );
    }
    assert_eq!(image(bench), (1, vec![(1, "gold".to_owned(), b"g".to_vec())]));
}

fn deleted_resources_are_gone(bench: &Bench) {
    bench.one(edit(0, &[change(1, "gold", Some(b"g")), change(2, "gold", Some(b"h"))])).unwrap();
    bench.one(edit(1, &[change(1, "gold", None), change(1, "never", None)])).unwrap();
    assert_eq!(image(bench), (2, vec![(2, "gold".to_owned(), b"h".to_vec())]));
}

fn of_two_edits_of_one_revision_the_first_wins(bench: &Bench) {
    let edits =
        [b"1", b"2"].map(|value| Operation::Edit(edit(0, &[change(1, "gold", Some(value))])));
    let answers = bench.ledger.commit(&edits).unwrap();
    assert_eq!(answers, [Answer::Edit(Ok(1)), Answer::Edit(Err(RevisionConflict { current: 1 }))]);
    assert_eq!(image(bench).1, [(1, "gold".to_owned(), b"1".to_vec())]);
}

fn secrets_stay_what_they_are(bench: &Bench) {
    let secrets = bench.ledger.secrets().unwrap();
    assert_eq!(bench.ledger.secrets().unwrap(), secrets);
    assert_ne!(secrets.receipt_key, secrets.key_hash);
    assert_ne!(secrets.receipt_key, [0; 32]);
    assert_ne!(Bench::memory().ledger.secrets().unwrap(), secrets);
    assert_eq!(format!("{secrets:?}"), "Secrets", "they are never printed");
}

fn every_start_of_a_holder_is_another_epoch(bench: &Bench) {
    let joined = [1, 1, 2, 1].map(|id| bench.join(id));
    let expected = [(1, 1), (1, 2), (2, 1), (1, 3)].map(|(id, epoch)| Holder { id, epoch });
    assert_eq!(joined, expected);
}

#[test]
fn a_file_keeps_catalog_secrets_and_epochs() {
    let bench = Bench::file();
    bench.one(edit(0, &[change(1, "gold", Some(b"g"))])).unwrap();
    let (secrets, catalog) =
        (bench.ledger.secrets().unwrap(), bench.ledger.load_catalog().unwrap());
    bench.join(1);
    let bench = bench.reopened();
    assert_eq!(bench.ledger.secrets().unwrap(), secrets);
    assert_eq!(bench.ledger.load_catalog().unwrap(), catalog);
    assert_eq!(bench.join(1).epoch, 2);
}
