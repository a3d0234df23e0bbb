//! Values as property files write them.

use std::time::Duration;

/// What is wrong with a value; the property's name is added by the caller.
type Parsed<T> = Result<T, String>;

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn integer(text: &str) -> Parsed<i32> {
    text.parse().map_err(|_| format!("{text:?} is no number between {} and {}", i32::MIN, i32::MAX))
}

/// A number of bytes or records, or a time: never negative.
pub(super) fn natural(text: &str) -> Parsed<i32> {
    match integer(text)? {
        n if n < 0 => Err(format!("{n} is negative")),
        n => Ok(n),
    }
}

/// Kilobytes and the like, which can be more than an `i32` of bytes.
pub(super) fn size(text: &str, unit: usize) -> Parsed<usize> {
    let n = usize::try_from(natural(text)?).unwrap_or(0);
    n.checked_mul(unit).ok_or_else(|| format!("{text:?} is too much"))
}

/// Milliseconds. Zero means "at once" in both worlds; here a millisecond is the least.
pub(super) fn millis(text: &str) -> Parsed<Duration> {
    let millis = natural(text)?.max(1).unsigned_abs();
    Ok(Duration::from_millis(u64::from(millis)))
}

/// `PnDTnHnMn.nS`, as `java.time.Duration` reads it, without negative parts.
pub(super) fn iso_duration(text: &str) -> Parsed<Duration> {
    parse_iso(&text.to_ascii_uppercase())
        .ok_or_else(|| format!("{text:?} is no duration; write for example P1D, PT1H or PT30M"))
}

fn parse_iso(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        total = total.checked_add(seconds(days.strip_suffix('D')?, 86_400)?)?;
    }
    let mut rest = time;
    for (unit, factor) in [('H', 3_600), ('M', 60)] {
        if let Some((number, after)) = rest.split_once(unit) {
            total = total.checked_add(seconds(number, factor)?)?;
            rest = after;
        }
    }
    if rest.is_empty() {
        return Some(total);
    }
    let (whole, fraction) = match rest.strip_suffix('S')?.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (rest.strip_suffix('S')?, ""),
    };
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    total.checked_add(seconds(whole, 1)?)?.checked_add(Duration::from_nanos(nanos))
}

fn seconds(number: &str, factor: u64) -> Option<Duration> {
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        let secs = |text| iso_duration(text).map(|d| d.as_millis());
        assert_eq!(secs("PT1H"), Ok(3_600_000));
        assert_eq!(secs("P2DT3H4M5.5S"), Ok(((2 * 24 + 3) * 3600 + 4 * 60 + 5) * 1000 + 500));
        assert_eq!(secs("pt0.001s"), Ok(1));
        assert_eq!(secs("P1D"), Ok(86_400_000));
        for wrong in
            ["", "P", "PT", "P1DT", "1H", "PT-1H", "PT1X", "PT1.S2", "P99999999999999999D", "PT1H2H", "PT5"]
        {
            assert!(iso_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_that_are_none_are_told() {
        assert_eq!(boolean("TRUE"), Ok(true));
        assert_eq!(boolean("f"), Ok(false));
        assert!(boolean("yes").unwrap_err().contains("neither"));
        assert!(natural("-1").unwrap_err().contains("negative"));
        assert!(integer("3000000000").is_err());
        assert_eq!(size("65536", 1024), Ok(64 << 20));
        assert_eq!(millis("0"), Ok(Duration::from_millis(1)));
    }
}
