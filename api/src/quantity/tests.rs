//! Tests of quantities.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn q(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

#[test]
fn canonical_texts() {
    for (text, canonical) in [
        ("0", "0"),
        ("0Gi", "0"),
        ("0.5", "500m"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1.500", "1.500"),
        ("1.5", "1500m"),
        ("2000", "2k"),
        ("1e3", "1e3"),
        ("1000e3", "1e6"),
        ("12e-3", "12e-3"),
        ("1E", "1E"),
        ("10E", "10E"),
        ("1024Ki", "1Mi"),
        ("1025Ki", "1025Ki"),
        ("0.5Gi", "512Mi"),
        ("1.5Gi", "1536Mi"),
        ("1Ki", "1Ki"),
        ("1023", "1023"),
        ("0.1Ki", "102400m"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("123Mi", "123Mi"),
        ("-5Mi", "-5Mi"),
        ("16Ei", "9223372036854775807"),
        ("100000000000000000000", "100E"),
        ("0.000000001", "1n"),
        ("3.141592653", "3.141592653"),
        ("1028Mi", "1028Mi"),
        ("+5", "+5"),
        ("007", "007"),
        ("1.", "1."),
        (".5", "500m"),
        ("k", "0"),
    ] {
        assert_eq!(q(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn values_round_away_from_zero() {
    for (text, value, milli) in [
        ("100m", 1, 100),
        ("1.1", 2, 1100),
        ("-1.1", -2, -1100),
        ("1Ki", 1024, 1_024_000),
        ("1n", 1, 1),
        ("1E", 1_000_000_000_000_000_000, i64::MAX),
        ("100E", i64::MAX, i64::MAX),
        ("1e300", i64::MAX, i64::MAX),
    ] {
        assert_eq!((q(text).value(), q(text).milli_value()), (value, milli), "{text}");
    }
    assert!((q("250m").as_f64() - 0.25).abs() < f64::EPSILON);
}

#[test]
fn compared_by_value() {
    assert_eq!(q("1"), q("1000m"));
    assert_eq!(q("1Mi"), q("1048576"));
    assert_eq!(q("0"), q("0Gi"));
    assert!(q("1e300") > q("1E"));
    assert!(q("-1e300") < q("-1E"));
    assert!(q("1n") > q("-1e300"));
    assert!(q("1023Mi") < q("1Gi"));
}

#[test]
fn arithmetic() {
    let mut sum = Quantity::default();
    for part in ["100m", "1", "0.9"] {
        sum.add(&q(part));
    }
    assert_eq!(sum.to_string(), "2");
    let mut memory = Quantity::default();
    memory.add(&q("512Mi"));
    memory.add(&q("512Mi"));
    assert_eq!(memory.to_string(), "1Gi");
    memory.sub(&q("1Gi"));
    assert!(memory.is_zero());
    memory.sub(&q("1Ki"));
    assert!(memory.is_negative());
    let mut many = q("250m");
    many.mul(3);
    assert_eq!(many.to_string(), "750m");
    many.round_up(0);
    assert_eq!(many.to_string(), "1");
}

#[test]
fn wrong_texts() {
    for (text, error) in [
        ("", QuantityError::Format),
        ("1.2.3", QuantityError::Format),
        ("abc", QuantityError::Format),
        ("1Zi", QuantityError::Format),
        ("1mm", QuantityError::Suffix),
        ("1ki", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
        ("1 Gi", QuantityError::Format),
    ] {
        assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
    }
    assert_eq!(Quantity::from_value(&json!(2)).unwrap(), q("2"));
    assert_eq!(Quantity::from_value(&json!([])).unwrap_err(), QuantityError::Format);
}

#[test]
fn very_long_numbers_neither_panic_nor_vanish() {
    let long = "9".repeat(60);
    assert!(q(&long) > q("1E"));
    assert!(Quantity::parse(&format!("0.{}1", "0".repeat(200))).unwrap() == q("1n"));
    assert_eq!(q("1e-300").to_string(), "1e-9");
}
