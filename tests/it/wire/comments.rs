//! Everything in the contract says what it means.

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tollgate::grpc::TOLLGATE_DESCRIPTORS;

/// Numbers of fields in descriptors, of which the path to a comment is made.
mod place {
    pub const MESSAGES: i32 = 4;
    pub const ENUMS: i32 = 5;
    pub const SERVICES: i32 = 6;
    pub const METHODS: i32 = 2;
    pub const FIELDS: i32 = 2;
    pub const MESSAGES_WITHIN: i32 = 3;
    pub const ENUMS_WITHIN: i32 = 4;
    pub const ONEOFS: i32 = 8;
    pub const VALUES: i32 = 2;
}

struct Found {
    /// Name and path of each thing that can have a comment.
    things: Vec<(String, Vec<i32>)>,
}

impl Found {
    fn of(file: &FileDescriptorProto) -> Self {
        let mut found = Self { things: Vec::new() };
        found.each(&[], place::MESSAGES, file.message_type.iter(), |found, path, message| {
            found.message(message.name(), path, message)
        });
        found.each(&[], place::ENUMS, file.enum_type.iter(), |found, path, values| {
            found.values(values.name(), path, values)
        });
        found.each(&[], place::SERVICES, file.service.iter(), |found, path, service| {
            found.things.push((service.name().to_owned(), path.clone()));
            found.each(&path, place::METHODS, service.method.iter(), |found, path, method| {
                found.things.push((format!("{}.{}", service.name(), method.name()), path));
            });
        });
        found
    }

    fn each<T>(
        &mut self,
        at: &[i32],
        kind: i32,
        things: impl Iterator<Item = T>,
        mut add: impl FnMut(&mut Self, Vec<i32>, T),
    ) {
        for (index, thing) in (0..).zip(things) {
            add(self, [at, &[kind, index]].concat(), thing);
        }
    }

    fn message(&mut self, name: &str, path: Vec<i32>, message: &DescriptorProto) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        self.each(&path, place::FIELDS, message.field.iter(), |found, path, field| {
            found.things.push((format!("{name}.{}", field.name()), path));
        });
        // The last ones are made for optional fields, and are not in the file.
        let written = message.oneof_decl.len()
            - message.field.iter().filter(|field| field.proto3_optional()).count();
        self.each(
            &path,
            place::ONEOFS,
            message.oneof_decl.iter().take(written),
            |found, path, parts| {
                found.things.push((format!("{name}.{}", parts.name()), path));
            },
        );
        self.each(
            &path,
            place::MESSAGES_WITHIN,
            message.nested_type.iter(),
            |found, path, inner| {
                found.message(&format!("{name}.{}", inner.name()), path, inner);
            },
        );
        self.each(&path, place::ENUMS_WITHIN, message.enum_type.iter(), |found, path, values| {
            found.values(&format!("{name}.{}", values.name()), path, values);
        });
        self.things.push((name.to_owned(), path));
    }

    fn values(&mut self, name: &str, path: Vec<i32>, values: &EnumDescriptorProto) {
        self.each(&path, place::VALUES, values.value.iter(), |found, path, value| {
            found.things.push((format!("{name}.{}", value.name()), path));
        });
        self.things.push((name.to_owned(), path));
    }
}

/// What has no comment, and how many have one.
fn silent(file: &FileDescriptorProto) -> (Vec<String>, usize) {
    let places = file.source_code_info.as_ref().unwrap().location.iter();
    let said: Vec<_> = places
        .filter(|place| place.leading_comments().trim().len() > 4)
        .map(|place| &place.path)
        .collect();
    let (with, without): (Vec<_>, Vec<_>) =
        Found::of(file).things.into_iter().partition(|(_, path)| said.contains(&path));
    (without.into_iter().map(|(name, _)| name).collect(), with.len())
}

#[test]
fn everything_in_the_contract_says_what_it_means() {
    let files = FileDescriptorSet::decode(TOLLGATE_DESCRIPTORS).unwrap().file;
    let mut with = 0;
    for file in files.iter().filter(|file| file.package() == "tollgate.v1") {
        let (without, documented) = silent(file);
        assert!(
            without.is_empty(),
            "{}: say what these mean, as comments before them: {without:?}",
            file.name()
        );
        with += documented;
    }
    assert!(with > 400, "only {with} things were found");
}

#[test]
fn what_says_nothing_is_found() {
    let source = "syntax = \"proto3\"; package p;
        // Asks what is asked.
        service S {
          rpc M(A) returns (A);
        }
        message A {
          // This one is explained.
          string a = 1;
          //
          string b = 2; // This comment is after it.
          optional string c = 3;
          map<string, string> d = 4;
          oneof o { string e = 5; }
          enum E { ZERO = 0; }
          message In { string f = 1; }
        }";
    let file = protox::file::File::from_source("p.proto", source).unwrap();
    let (without, documented) = silent(file.file_descriptor_proto());
    let names =
        ["A.b", "A.c", "A.d", "A.e", "A.o", "A.In.f", "A.In", "A.E.ZERO", "A.E", "A", "S.M"];
    assert_eq!((without, documented), (names.map(str::to_owned).to_vec(), 2));
}
