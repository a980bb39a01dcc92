use super::*;
use crate::catalog::tests::{edit, furnished, plan, store, value_of};
use crate::catalog::{CatalogStore, NewValue};
use crate::testkit::declared::{key, subscriber};

fn options<'a>(filter: &'a str, order_by: &'a str) -> ListOptions<'a> {
    ListOptions { filter, order_by, ..ListOptions::default() }
}

fn ids<T: Listed>(page: Result<Page<T>, Vec<Invalid>>) -> Vec<String> {
    page.unwrap().items.iter().map(|stored| stored.value.id().to_string()).collect()
}

/// 25 plans `p00`.. made one a second, whose display names run the other way round.
fn many() -> CatalogStore {
    let store = store();
    for i in 0..25 {
        let mut one = plan(&format!("p{i:02}"), &[]);
        one.about.display_name = format!("Plan {}", 25 - i);
        edit(&store, 1 + i, |draft| draft.create_plan(one));
    }
    store
}

/// All pages, walked by their tokens.
fn walk(store: &CatalogStore, size: i32, filter: &str, order_by: &str) -> Vec<Vec<String>> {
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let options = ListOptions { page_size: size, page_token: &token, filter, order_by };
        let page = store.snapshot().list_plans(&options).unwrap();
        pages.push(page.items.iter().map(|stored| stored.value.plan.id.to_string()).collect());
        token = page.next_page_token;
        if token.is_empty() {
            return pages;
        }
    }
}

#[test]
fn every_order_walks_everything_once() {
    let store = many();
    let by_id: Vec<String> = (0..25).map(|i| format!("p{i:02}")).collect();
    let reversed: Vec<String> = by_id.iter().rev().cloned().collect();
    let mut by_name = by_id.clone();
    by_name.sort_by_key(|id| format!("Plan {}", 25 - id[1..].parse::<u32>().unwrap()));
    let names_reversed: Vec<String> = by_name.iter().rev().cloned().collect();
    let cases = [
        ("", &by_id),
        ("id", &by_id),
        (" id  asc ", &by_id),
        ("id desc", &reversed),
        ("display_name", &by_name),
        ("display_name desc", &names_reversed),
        ("update_time", &by_id),
        ("update_time desc", &reversed),
    ];
    for (order, expected) in cases {
        for (size, pages) in [(1, 25), (7, 4), (24, 2), (25, 1), (26, 1), (0, 1), (5_000, 1)] {
            let walked = walk(&store, size, "", order);
            assert_eq!(walked.len(), pages, "{order:?} by {size}");
            assert_eq!(walked.concat(), *expected, "{order:?} by {size}");
        }
        assert_eq!(walk(&store, 4, "plan", order).concat(), *expected, "{order:?} with a filter");
    }
}

#[test]
fn totals_are_over_all_pages() {
    let store = many();
    let page = |page_size, filter| {
        store
            .snapshot()
            .list_plans(&ListOptions { page_size, filter, ..ListOptions::default() })
            .unwrap()
    };
    assert_eq!((page(3, "").items.len(), page(3, "").total), (3, 25));
    assert_eq!((page(3, "p1").items.len(), page(3, "p1").total), (3, 10));
    assert_eq!((page(3, "nothing").items.len(), page(3, "nothing").total), (0, 0));
    assert!(page(3, "nothing").next_page_token.is_empty());
}

#[test]
fn no_page_looks_through_more_than_its_part_of_a_long_list() {
    let store = many();
    let catalog = store.snapshot();
    let page = |filter: &str, token: &str, size| {
        let options = ListOptions { page_size: size, page_token: token, filter, order_by: "" };
        list(&catalog, &catalog.plans, &options, 10).unwrap()
    };
    let walked = |filter: &str, size| {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let Page { items, next_page_token, total } = page(filter, &token, size);
            let ids: Vec<_> = items.iter().map(|one| one.value.plan.id.to_string()).collect();
            pages.push((ids.join(" "), total));
            token = next_page_token;
            if token.is_empty() {
                return pages;
            }
        }
    };
    let pages = |pages: &[(&str, usize)]| -> Vec<_> {
        pages.iter().map(|(ids, total)| ((*ids).to_owned(), *total)).collect()
    };
    // Of 25 plans 10 are looked at for a page.
    assert_eq!(walked("nothing", 5), pages(&[("", 0), ("", 0), ("", 0)]));
    assert_eq!(walked("p24", 5), pages(&[("", 0), ("", 0), ("p24", 1)]));
    assert_eq!(
        walked("5", 2),
        // The names run the other way round: `Plan 5`, `Plan 15`, `Plan 25`.
        pages(&[("p00 p05", 2), ("p10 p15", 4), ("p20", 5)])
    );
    assert_eq!(walked("p", 24).iter().map(|(_, total)| *total).collect::<Vec<_>>(), [10, 20, 25]);
    // What an index leads to is one page, and so is what is short enough.
    assert_eq!(walked("id=p24", 5), pages(&[("p24", 1)]));
    let options = options("p24", "");
    assert_eq!(ids(list(&catalog, &catalog.plans, &options, 25)), ["p24"]);
    // A token of a part belongs to its list.
    let token = page("nothing", "", 5).next_page_token;
    let other = ListOptions { page_token: &token, filter: "p", ..ListOptions::default() };
    assert_eq!(list(&catalog, &catalog.plans, &other, 10).unwrap_err()[0].field, "page_token");
}

#[test]
fn page_sizes_have_a_default_and_a_bound() {
    let store = store();
    edit(&store, 1, |draft| {
        (0..1_001).try_for_each(|i| {
            draft.create_subscriber(subscriber(&format!("s{i}"), &[])).map(|_| ())
        })
    });
    let count = |page_size| {
        store
            .snapshot()
            .list_subscribers(&ListOptions { page_size, ..ListOptions::default() })
            .unwrap()
            .items
            .len()
    };
    assert_eq!(
        [count(0), count(999), count(1_000), count(1_001), count(i32::MAX)],
        [50, 999, 1_000, 1_000, 1_000]
    );
    let wrong = store
        .snapshot()
        .list_subscribers(&ListOptions { page_size: -1, ..ListOptions::default() })
        .unwrap_err();
    assert_eq!(wrong[0].field, "page_size");
}

#[test]
fn edits_between_pages_neither_repeat_nor_skip() {
    let store = many();
    let first = store
        .snapshot()
        .list_plans(&ListOptions { page_size: 10, ..ListOptions::default() })
        .unwrap();
    edit(&store, 99, |draft| {
        draft.delete_plan("p09", "", false)?;
        draft.create_plan(plan("p03x", &[]))
    });
    let next =
        ListOptions { page_size: 2, page_token: &first.next_page_token, ..ListOptions::default() };
    assert_eq!(ids(store.snapshot().list_plans(&next)), ["p10", "p11"]);
}

/// Walks on from a token, and gives the ids, page by page.
fn walk_on(store: &CatalogStore, mut token: String, filter: &str, order_by: &str) -> Vec<String> {
    let mut walked = Vec::new();
    while !token.is_empty() {
        let options = ListOptions { page_size: 3, page_token: &token, filter, order_by };
        let page = store.snapshot().list_plans(&options).unwrap();
        walked.extend(page.items.iter().map(|stored| stored.value.plan.id.to_string()));
        token = page.next_page_token;
    }
    walked
}

#[test]
fn an_order_is_searched_once_for_all_pages_and_edits_neither_repeat_nor_skip() {
    let store = many();
    let (filter, order_by) = ("plan", "display_name");
    let page = |token: &str| {
        let options = ListOptions { page_size: 3, page_token: token, filter, order_by };
        store.snapshot().list_plans(&options).unwrap()
    };
    let expected = walk(&store, 3, filter, order_by).concat();
    assert_eq!(store.snapshot().walks.kept(), 0, "what was walked to its end is not kept");
    let first = page("");
    assert_eq!(store.snapshot().walks.kept(), 0, "one page alone keeps nothing");
    let second = page(&first.next_page_token);
    assert_eq!((store.snapshot().walks.kept(), second.total), (1, 25));
    let on_pages: Vec<_> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|stored| stored.value.plan.id.to_string())
        .collect();
    assert_eq!(on_pages, expected[..6]);
    // One is deleted, one does not match any more, and one moves to where the walk has been
    // already.
    edit(&store, 50, |draft| {
        draft.delete_plan(&expected[8], "", false)?;
        let mut moved = plan(&expected[20], &[]);
        moved.about.display_name = "A plan".to_owned();
        draft.replace_plan(moved)
    });
    let left: Vec<_> = expected[6..].iter().filter(|id| **id != expected[8]).cloned().collect();
    assert_eq!(walk_on(&store, second.next_page_token.clone(), filter, order_by), left);
    // After many edits it is searched again, from the same place on.
    let second = page(&page("").next_page_token);
    for number in 0..1_001 {
        edit(&store, 60, |draft| {
            draft
                .replace_plan(plan("elsewhere", &[]))
                .or_else(|_| draft.create_plan(plan("elsewhere", &[])))
                .map(|_| number)
        });
    }
    let now = walk(&store, 3, filter, order_by).concat();
    assert_eq!(walk_on(&store, second.next_page_token, filter, order_by), now[6..]);
}

#[test]
fn several_walk_at_once_and_few_are_kept() {
    let store = many();
    let orders = [
        "display_name",
        "display_name desc",
        "update_time",
        "update_time desc",
        "id desc",
        "id desc ",
        " id desc",
    ];
    let first = |order_by| {
        let options = ListOptions { page_size: 3, order_by, ..ListOptions::default() };
        store.snapshot().list_plans(&options).unwrap().next_page_token
    };
    let mut walks: Vec<_> =
        orders.iter().map(|&order_by| (order_by, first(order_by), Vec::new())).collect();
    while walks.iter().any(|(_, token, _)| !token.is_empty()) {
        for (order_by, token, walked) in walks.iter_mut().filter(|(_, token, _)| !token.is_empty())
        {
            let options =
                ListOptions { page_size: 3, page_token: token, order_by, ..ListOptions::default() };
            let page = store.snapshot().list_plans(&options).unwrap();
            walked.extend(page.items.iter().map(|stored| stored.value.plan.id.to_string()));
            let next = page.next_page_token.clone();
            assert!(store.snapshot().walks.kept() <= 4);
            *token = next;
        }
    }
    for (order_by, _, walked) in walks {
        assert_eq!(walked, walk(&store, 3, "", order_by).concat()[3..], "{order_by}");
    }
}

#[test]
fn filters_by_text_and_by_relation() {
    let store = furnished();
    edit(&store, 2, |draft| {
        draft.create_key(key("zeta-1", "zeta"), NewValue::Given(&value_of("zeta-1")))?;
        draft.create_subscriber(subscriber("idle", &[]))
    });
    let catalog = store.snapshot();
    let plans: [(&str, &[&str]); 8] = [
        ("", &["free", "gold"]),
        ("OL", &["gold"]),
        ("g ol", &["gold"]),
        ("plan=free", &["free"]),
        ("target=orders", &["free", "gold"]),
        ("target=users", &["gold"]),
        ("subscriber=zeta", &["gold"]),
        ("subscriber=acme free", &["free"]),
    ];
    for (filter, expected) in plans {
        assert_eq!(ids(catalog.list_plans(&options(filter, ""))), expected, "plans {filter:?}");
    }
    let targets: [(&str, &[&str]); 5] = [
        ("plan=free", &["orders"]),
        ("plan=gold", &["orders", "users"]),
        ("target=users", &["users"]),
        ("subscriber=acme plan=free", &["orders"]),
        ("subscriber=nobody", &[]),
    ];
    for (filter, expected) in targets {
        assert_eq!(ids(catalog.list_targets(&options(filter, ""))), expected, "targets {filter:?}");
    }
    let subscribers: [(&str, &[&str]); 5] = [
        ("plan=gold", &["acme", "zeta"]),
        ("plan=free", &["acme"]),
        ("target=users", &["acme", "zeta"]),
        ("subscriber=idle", &["idle"]),
        ("\"ID\"", &["idle"]),
    ];
    for (filter, expected) in subscribers {
        assert_eq!(
            ids(catalog.list_subscribers(&options(filter, ""))),
            expected,
            "subscribers {filter:?}"
        );
    }
    let keys: [(&str, &[&str]); 4] = [
        ("subscriber=acme", &["acme-1", "acme-2"]),
        ("plan=gold", &["acme-1", "acme-2", "zeta-1"]),
        ("plan=free -1", &["acme-1"]),
        ("target=orders subscriber=zeta", &["zeta-1"]),
    ];
    for (filter, expected) in keys {
        assert_eq!(ids(catalog.list_keys(&options(filter, ""))), expected, "keys {filter:?}");
    }
}

#[test]
fn filters_by_fields() {
    let store = furnished();
    edit(&store, 2, |draft| {
        let mut named = subscriber("bronze-co", &["free"]);
        named.about.display_name = "Bronze & Co".to_owned();
        named.about.description = "Of the north".to_owned();
        named.about.labels = [("team".to_owned(), "x".to_owned())].into();
        draft.create_subscriber(named)?;
        let off = crate::decide::plan::ApiKey { enabled: false, ..key("off-1", "bronze-co") };
        draft.create_key(off, NewValue::Given(&value_of("off-1")))
    });
    let catalog = store.snapshot();
    let subscribers: [(&str, &[&str]); 14] = [
        ("display_name:bronze", &["bronze-co"]),
        ("display_name=\"Bronze & Co\"", &["bronze-co"]),
        ("display_name=\"bronze & co\"", &[]),
        ("id = \"acme\"", &["acme"]),
        ("id=acm", &[]),
        ("id:acm", &["acme"]),
        ("plan:gold", &["acme", "zeta"]),
        ("plan:gold AND id:Z", &["zeta"]),
        ("plans:free id:o", &["bronze-co"]),
        ("labels.team:x", &["bronze-co"]),
        ("labels.team=y", &[]),
        ("labels:team", &["bronze-co"]),
        ("description:north", &["bronze-co"]),
        ("description:*", &["bronze-co"]),
    ];
    for (filter, expected) in subscribers {
        let page = catalog.list_subscribers(&options(filter, "")).unwrap();
        assert_eq!(page.total, expected.len(), "{filter:?}");
        assert_eq!(ids(Ok(page)), expected, "subscribers {filter:?}");
    }
    assert_eq!(ids(catalog.list_keys(&options("enabled=false", ""))), ["off-1"]);
    assert_eq!(ids(catalog.list_keys(&options("enabled:true", ""))), ["acme-1", "acme-2"]);
    let wrong = catalog.list_plans(&options("enabled=true", "")).unwrap_err();
    assert_eq!(wrong[0].field, "filter", "a plan cannot be switched off: {wrong:?}");
}

#[test]
fn garbage_is_refused_by_field() {
    let store = many();
    let catalog = store.snapshot();
    let token = catalog
        .list_plans(&ListOptions { page_size: 1, ..ListOptions::default() })
        .unwrap()
        .next_page_token;
    let with =
        |page_token, filter, order_by| ListOptions { page_size: 1, page_token, filter, order_by };
    let mut altered = token.clone().into_bytes();
    altered[12] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    let cases = [
        (with("garbage!", "", ""), "page_token"),
        (with("Z2FyYmFnZQ", "", ""), "page_token"),
        (with(&altered, "", ""), "page_token"),
        (with(&token[..token.len() - 4], "", ""), "page_token"),
        (with(&token, "p", ""), "page_token"),
        (with(&token, "", "id desc"), "page_token"),
        (with("", "colour=red", ""), "filter"),
        (with("", "", "colour"), "order_by"),
        (with("", "", "id up"), "order_by"),
        (with("", "", "id desc id"), "order_by"),
    ];
    for (options, field) in cases {
        let wrong = catalog.list_plans(&options).unwrap_err();
        assert_eq!(
            wrong.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(),
            [field],
            "{options:?}"
        );
    }
    assert!(catalog.list_plans(&with(&token, "", "")).is_ok());
    let elsewhere = catalog.list_targets(&with(&token, "", "")).unwrap_err();
    assert_eq!(elsewhere[0].field, "page_token", "a token of another kind of resource");
    let all = catalog
        .list_plans(&ListOptions { page_size: -1, page_token: "!", filter: "a=b", order_by: "x" })
        .unwrap_err();
    assert_eq!(all.len(), 4, "all mistakes at once");
}
