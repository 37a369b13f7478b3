//! Quantities as the kubelet needs them: whole units or thousandths, rounded up, as upstream's Value and MilliValue.

/// The quantity in its unit, rounded up; `None` when it is no quantity or does not fit.
pub fn value(text: &str) -> Option<i64> {
    scaled(text, 1)
}

/// The quantity in thousandths of its unit, rounded up.
pub fn millis(text: &str) -> Option<i64> {
    scaled(text, 1000)
}

/// `text × scale`, rounded away from zero.
fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (mut numerator, mut denominator) = decimal(number)?;
    let (up, down) = unit(suffix)?;
    numerator = numerator.checked_mul(up)?.checked_mul(scale)?;
    denominator = denominator.checked_mul(down)?;
    let rounded = numerator / denominator + i128::from(numerator % denominator != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

/// A decimal number as a fraction.
fn decimal(number: &str) -> Option<(i128, i128)> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let part = &part[..part.len().min(18)];
    let denominator = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let parse = |s: &str| if s.is_empty() { Some(0) } else { s.parse::<i128>().ok() };
    Some((parse(whole)?.checked_mul(denominator)?.checked_add(parse(part)?)?, denominator))
}

/// A suffix as a fraction.
fn unit(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_up() {
        for (text, whole, milli) in [
            ("1", Some(1), Some(1000)),
            ("100m", Some(1), Some(100)),
            ("1.5", Some(2), Some(1500)),
            ("64Mi", Some(64 << 20), Some((64 << 20) * 1000)),
            ("1e3", Some(1000), Some(1_000_000)),
            ("2k", Some(2000), Some(2_000_000)),
            ("1n", Some(1), Some(1)),
            ("x", None, None),
            ("", None, None),
            ("1Q", None, None),
        ] {
            assert_eq!((value(text), millis(text)), (whole, milli), "{text}");
        }
    }
}
