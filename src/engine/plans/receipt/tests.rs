use super::*;

const KEY: [u8; 32] = [3; 32];

fn receipt(quotas: u64) -> Receipt {
    let charged = |number: u64| Charged {
        counter: 77 + number,
        period_start_s: 1_795_305_600,
        rule: 0,
        at_report: number % 2 == 1,
    };
    Receipt {
        holder: Holder { id: 1, epoch: 2 },
        shard: 200,
        seq: 9,
        key: 4,
        target: 5,
        issued_us: 1_795_341_600_000_000,
        cost: 1,
        charges: (0..quotas).map(charged).collect(),
    }
}

fn largest(quotas: usize) -> Receipt {
    let charged = Charged {
        counter: (1 << 49) - 1,
        period_start_s: (1 << 35) - 1,
        rule: (1 << 13) - 1,
        at_report: true,
    };
    Receipt {
        holder: Holder { id: u32::MAX, epoch: u32::MAX },
        shard: u8::MAX,
        seq: (1 << 49) - 1,
        key: u32::MAX,
        target: u32::MAX,
        issued_us: (1 << 56) - 1,
        cost: u64::MAX,
        charges: vec![charged; quotas].into(),
    }
}

#[test]
fn what_was_sealed_is_opened() {
    for quotas in 0..=16 {
        let one = receipt(quotas);
        assert_eq!(Receipt::open(one.seal(&KEY).unwrap().as_bytes(), &KEY), Some(one));
    }
}

#[test]
fn the_longest_receipts_keep_within_their_lengths() {
    for (quotas, longest) in [(1, 160), (4, 160), (16, 400)] {
        let one = largest(quotas);
        let sealed = one.seal(&KEY).unwrap();
        assert!(sealed.len() <= longest, "{quotas} quotas take {}", sealed.len());
        assert_eq!(Receipt::open(sealed.as_bytes(), &KEY), Some(one));
    }
    assert_eq!(receipt(17).seal(&KEY), None);
}

#[test]
fn every_altered_character_and_every_cut_is_refused() {
    let sealed = receipt(2).seal(&KEY).unwrap();
    assert!(
        sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    );
    for place in 0..sealed.len() {
        for letter in b'!'..=b'~' {
            let mut altered = sealed.clone().into_bytes();
            if altered[place] != letter {
                altered[place] = letter;
                assert_eq!(Receipt::open(&altered, &KEY), None, "{place} is {letter}");
            }
        }
        assert_eq!(Receipt::open(&sealed.as_bytes()[..place], &KEY), None);
        assert_eq!(Receipt::open(&sealed.as_bytes()[place + 1..], &KEY), None);
    }
    for more in ["=", "==", "A", "AAAA", " ", "\n"] {
        assert_eq!(Receipt::open(format!("{sealed}{more}").as_bytes(), &KEY), None);
    }
    assert_eq!(Receipt::open(sealed.as_bytes(), &[4; 32]), None);
    assert_eq!(Receipt::open(&[b'A'; 401], &KEY), None);
    assert_eq!(Receipt::open(&[0xff; 100], &KEY), None);
}

#[test]
fn a_receipt_has_one_string() {
    // The last character carries unused bits: setting them must not give a second string for the
    // same bytes.
    for quotas in 0..8 {
        let sealed = receipt(quotas).seal(&KEY).unwrap();
        let mut accepted = 0;
        for letter in b'-'..=b'z' {
            let mut altered = sealed.clone().into_bytes();
            *altered.last_mut().unwrap() = letter;
            accepted += usize::from(Receipt::open(&altered, &KEY).is_some());
        }
        assert_eq!(accepted, 1);
    }
}

#[test]
fn integers_have_their_shortest_form_only() {
    let reads = |bytes: &[u8]| {
        let mut rest = bytes;
        take(&mut rest)
    };
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX] {
        let mut bytes = SmallVec::new();
        put(&mut bytes, value);
        assert_eq!(reads(&bytes), Some(value));
    }
    assert_eq!(reads(&[0x80, 0]), None, "longer than needed");
    assert_eq!(reads(&[0x80]), None, "cut");
    assert_eq!(reads(&[]), None);
    assert_eq!(
        reads(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        None,
        "more than 64 bits"
    );
}
