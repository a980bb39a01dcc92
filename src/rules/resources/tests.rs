use super::*;
use crate::rules::declared::{Descriptor, RateLimit};
use crate::rules::{Limit, PerUnit};

/// `name=domain/key:5,key:6`: a resource; a limit of `bad` has an unknown unit.
fn resource(text: &str) -> File {
    let (name, rest) = text.split_once('=').unwrap();
    let (domain, descriptors) = rest.split_once('/').unwrap();
    let descriptor = |text: &str| {
        let (key, limit) = text.split_once(':').unwrap();
        let requests = limit.parse().ok();
        let unit = if requests.is_some() { "MINUTE" } else { "UNKNOWN" }.to_owned();
        let limit = RateLimit { unit, requests_per_unit: requests, ..RateLimit::default() };
        Descriptor { key: key.to_owned(), rate_limit: Some(limit), ..Descriptor::default() }
    };
    let descriptors = descriptors.split(',').filter(|text| !text.is_empty()).map(descriptor);
    File {
        name: name.to_owned(),
        domain: domain.to_owned(),
        descriptors: descriptors.collect(),
        ..File::default()
    }
}

struct Server {
    before: Vec<Arc<File>>,
    merge_domains: bool,
}

impl Server {
    fn new(merge_domains: bool) -> Self {
        Self { before: Vec::new(), merge_domains }
    }

    /// What is in force then, and what is refused. A word without `=` cannot be read, and one that
    /// ends in `?` has a name.
    fn sends(&mut self, words: &[&str]) -> (String, Vec<String>) {
        let mut resources = Resources::default();
        for word in words {
            match word.split_once('=') {
                Some(_) => resources.read.push(resource(word)),
                None => resources.unread.push(Unread {
                    name: word.strip_suffix('?').map(str::to_owned),
                    reason: "cannot be read".to_owned(),
                }),
            }
        }
        let options = LoadOptions { merge_domains: self.merge_domains };
        let accepted = accept(&self.before, resources, &options).unwrap();
        self.before = accepted.in_force;
        let limits = accepted.rules.rules().map(|rule| match rule.limit {
            Limit::Window(PerUnit { requests, .. }) => format!("{}:{requests}", rule.path),
            _ => "?".to_owned(),
        });
        let limits: Vec<_> = limits.collect();
        let refused = accepted.refused.iter().map(ToString::to_string).collect();
        (limits.join(" "), refused)
    }
}

/// In every order of the words.
fn orders(words: &[&str]) -> Vec<Vec<String>> {
    if words.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (at, first) in words.iter().enumerate() {
        let rest: Vec<_> = words[..at].iter().chain(&words[at + 1..]).copied().collect();
        for mut order in orders(&rest) {
            order.insert(0, (*first).to_owned());
            all.push(order);
        }
    }
    all
}

#[test]
fn what_is_good_comes_into_force_and_what_is_bad_stays_as_it_was() {
    let mut server = Server::new(false);
    let (limits, refused) = server.sends(&["a=a/k:1", "b=b/k:1", "c=c/k:1"]);
    assert_eq!((limits.as_str(), refused.len()), ("a.k:1 b.k:1 c.k:1", 0));
    let (limits, refused) = server.sends(&["a=a/k:2", "b=b/k:bad", "c=c/k:2"]);
    assert_eq!(limits, "a.k:2 b.k:1 c.k:2");
    assert_eq!(refused, ["b: invalid rate limit unit 'UNKNOWN'"]);
    // It goes on to be the last good one.
    assert_eq!(server.sends(&["b=b/:3", "c=/k:3"]).0, "b.k:1 c.k:2", "a is gone, and was good");
    let (limits, refused) = server.sends(&["b=b/k:4"]);
    assert_eq!((limits.as_str(), refused.len()), ("b.k:4", 0));
    assert_eq!(server.sends(&[]), (String::new(), vec![]));
}

#[test]
fn a_bad_one_that_was_never_good_is_not_there() {
    let mut server = Server::new(false);
    let (limits, refused) = server.sends(&["a=a/k:1,k:2", "b=b/k:1"]);
    assert_eq!(limits, "b.k:1");
    assert_eq!(refused, ["a: duplicate descriptor composite key 'a.k'"]);
}

#[test]
fn of_two_of_one_domain_the_one_in_force_stays_in_whatever_order_they_come() {
    let words = ["a=d/k:1", "b=d/l:2", "c=c/k:3"];
    for order in orders(&words) {
        let words: Vec<&str> = order.iter().map(String::as_str).collect();
        let mut fresh = Server::new(false);
        let (limits, refused) = fresh.sends(&words);
        assert_eq!(limits, "d.k:1 c.k:3", "{words:?}");
        assert_eq!(refused, ["b: duplicate domain 'd' in config file"], "{words:?}");

        let mut with_b = Server::new(false);
        with_b.sends(&["b=d/l:2"]);
        let (limits, refused) = with_b.sends(&words);
        assert_eq!(limits, "d.l:2 c.k:3", "{words:?}");
        assert_eq!(refused, ["a: duplicate domain 'd' in config file"], "{words:?}");
    }
}

#[test]
fn merged_domains_have_the_descriptors_of_all_but_not_the_same_twice() {
    for order in orders(&["a=d/k:1", "b=d/l:2", "c=d/k:3,m:3"]) {
        let words: Vec<&str> = order.iter().map(String::as_str).collect();
        let (limits, refused) = Server::new(true).sends(&words);
        assert_eq!(limits, "d.k:1 d.l:2", "{words:?}");
        assert_eq!(refused, ["c: duplicate descriptor composite key 'd.k'"], "{words:?}");
    }
}

#[test]
fn one_that_moves_to_a_taken_domain_stays_where_it_was() {
    let mut server = Server::new(false);
    server.sends(&["a=a/k:1", "b=b/k:1"]);
    let (limits, refused) = server.sends(&["a=b/k:2", "b=b/k:2"]);
    assert_eq!((limits.as_str(), refused.len()), ("a.k:1 b.k:2", 1));
    // Two that change places are both good.
    let (limits, refused) = server.sends(&["a=b/k:3", "b=a/k:3"]);
    assert_eq!((limits.as_str(), refused.len()), ("b.k:3 a.k:3", 0));
}

#[test]
fn what_cannot_be_read_may_be_any_that_is_missing() {
    let mut server = Server::new(false);
    server.sends(&["a=a/k:1", "b=b/k:1", "c=c/k:1"]);
    let (limits, refused) = server.sends(&["a=a/k:2", "x"]);
    assert_eq!(limits, "a.k:2 b.k:1 c.k:1");
    assert_eq!(refused, ["a resource: cannot be read"]);
    let (limits, refused) = server.sends(&["a=a/k:3", "b?"]);
    assert_eq!((limits.as_str(), refused), ("a.k:3 b.k:1", vec!["b: cannot be read".to_owned()]));
    let (limits, _) = server.sends(&["x", "y", "b?"]);
    assert_eq!(limits, "a.k:3 b.k:1", "each stays once");
}

#[test]
fn a_kept_one_goes_before_a_new_one_of_its_domain() {
    let mut server = Server::new(false);
    server.sends(&["z=d/k:1"]);
    let (limits, refused) = server.sends(&["a=d/k:9", "z=d/k:bad"]);
    assert_eq!((limits.as_str(), refused.len()), ("d.k:1", 2));
}
