//! Quantities parse and print as Kubernetes' do.

use crds::Quantity;
use proptest::prelude::*;

/// What Kubernetes' own code made of each string.
const GO: &str = include_str!("data/quantities.tsv");

#[test]
fn agrees_with_go() {
    for line in GO.lines().filter(|line| !line.starts_with('#')) {
        let [text, printed, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not three columns: {line:?}");
        };
        match text.parse::<Quantity>() {
            Err(_) => assert_eq!(printed, "ERR", "{text}"),
            Ok(quantity) => {
                assert_eq!(quantity.to_string(), printed, "{text}");
                if quantity.signum() >= 0 {
                    assert_eq!(quantity.bytes(), value.parse().ok(), "{text}");
                }
            }
        }
    }
}

/// What Go's int64 cannot hold, and what Go reads as 0 although its schema refuses it.
#[test]
fn differs_from_go_where_go_loses_the_number() {
    let printed = |text: &str| {
        text.parse::<Quantity>()
            .map(|quantity| quantity.to_string())
    };
    assert_eq!(printed("1000E").unwrap(), "1e21");
    assert_eq!(printed("1e20").unwrap(), "100e18");
    assert_eq!(
        "9223372036854775808".parse::<Quantity>().unwrap().bytes(),
        Some(1 << 63)
    );
    // Digits beyond what any integer holds count to the last.
    let long = format!("0.{}1Ki", "0".repeat(5000));
    assert_eq!(printed(&long).unwrap(), "1n");
    assert_eq!(
        printed("1.00000000000000000000000000000000000001Ei").unwrap(),
        "1152921504606846976000000001n"
    );
    assert_eq!(printed("1e-999999999999").unwrap(), "1e-9");
    assert_eq!(printed("0.01e-9223372036854775808").unwrap(), "1e-9");
    assert_eq!(printed("0e999999999999").unwrap(), "0");
    for text in ["", "+", "-", ".", "Ki", " 1", "1 Gi"] {
        assert!(printed(text).is_err(), "{text:?}");
    }
}

#[test]
fn errors_name_the_remedy() {
    let error = |text: &str| text.parse::<Quantity>().unwrap_err().to_string();
    assert_eq!(
        error("lots"),
        r#""lots" is not a quantity; write a number and a unit, such as 128Mi, 1.5Gi or 500m"#
    );
    assert_eq!(
        error("128MB"),
        r#""128MB" ends in an unknown unit "MB"; use one of Ki Mi Gi Ti Pi Ei, n u m k M G T P E, or an exponent such as e6"#
    );
    assert_eq!(
        error("1e999999999999"),
        r#""1e999999999999" is too large; the most is 10^29"#
    );
}

#[test]
fn reads_bare_numbers() {
    for (json, printed) in [
        ("128", "128"),
        ("1.5", "1500m"),
        ("-3", "-3"),
        (r#"" 1Gi ""#, "1Gi"),
    ] {
        let quantity: Quantity = serde_json::from_str(json).unwrap();
        assert_eq!(quantity.to_string(), printed, "{json}");
    }
}

/// Every string that the grammar allows, within what is kept.
fn text() -> impl Strategy<Value = String> {
    let suffix = "([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]|)";
    (
        "[+-]?",
        "([0-9]{1,9}(\\.[0-9]{0,12})?|\\.[0-9]{1,12})",
        suffix,
    )
        .prop_map(|(sign, number, suffix)| format!("{sign}{number}{suffix}"))
}

proptest! {
    #[test]
    fn printing_loses_nothing(text in text()) {
        let quantity: Quantity = text.parse().unwrap();
        let printed = quantity.to_string();
        let again: Quantity = printed.parse().unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn prints_no_fraction(text in text()) {
        let printed = text.parse::<Quantity>().unwrap().to_string();
        prop_assert!(!printed.contains('.'), "{}", printed);
    }

    #[test]
    fn bytes_are_what_they_were(bytes: u64) {
        prop_assert_eq!(Quantity::from_bytes(bytes).bytes(), Some(bytes));
        let kept: Quantity = bytes.to_string().parse().unwrap();
        prop_assert_eq!(kept.bytes(), Some(bytes));
    }

    #[test]
    fn order_is_that_of_the_numbers(a: u32, b: u32) {
        let (left, right) = (format!("{a}Ki"), format!("{b}k"));
        let ordered = left.parse::<Quantity>().unwrap().cmp(&right.parse().unwrap());
        prop_assert_eq!(ordered, (u64::from(a) * 1024).cmp(&(u64::from(b) * 1000)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = text.parse::<Quantity>();
    }
}
