//! Numbers with units, as PostgreSQL writes them: `64MB`, `1.5GB`, `500ms`, and `8kB` as a unit.

/// Bytes in a unit of memory, or microseconds in one of time.
pub(super) fn scale(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "B" | "us" => 1.0,
        "kB" => 1_024.0,
        "MB" => 1_048_576.0,
        "GB" => 1_073_741_824.0,
        "TB" => 1_099_511_627_776.0,
        "ms" => 1_000.0,
        "s" => 1_000_000.0,
        "min" => 60_000_000.0,
        "h" => 3_600_000_000.0,
        "d" => 86_400_000_000.0,
        _ => return None,
    })
}

/// Are these two the same amount of a setting that the server keeps in `unit`? It rounds to whole units.
pub(super) fn is_same(one: &str, other: &str, unit: &str) -> bool {
    match (number(one, unit), number(other, unit), number("1", unit)) {
        (Some(one), Some(other), Some(step)) => (one - other).abs() <= step / 2.0,
        _ => one.trim() == other.trim(),
    }
}

/// An amount in whole units of `suffix`, or of `unit` when that is empty, rounded down. Negative ones, which stand for "no
/// limit" or "as another setting", are none.
pub(super) fn in_suffix(text: &str, unit: &str, suffix: &str) -> Option<u64> {
    let step = if suffix.is_empty() { number("1", unit)? } else { scale(suffix)? };
    let count = (number(text, unit)? / step).floor();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
    (count >= 0.0).then_some(count as u64)
}

/// An amount in the smallest unit; a number without a unit of its own is in `unit`, which may be many (`8kB`).
fn number(text: &str, unit: &str) -> Option<f64> {
    let (count, own) = split(text)?;
    if !own.is_empty() {
        return Some(count * scale(own)?);
    }
    let (times, base) = split(unit).unwrap_or((1.0, unit));
    Some(count * times * scale(base)?)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !matches!(c, '0'..='9' | '.' | '-')).unwrap_or(trimmed.len());
    let (count, own) = trimmed.split_at_checked(end)?;
    Some((count.parse().ok()?, own.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        for (one, other, unit, is_equal) in [
            ("64MB", "65536", "kB", true),
            ("16384", "128 MB", "8kB", true),
            ("1.5GB", "1572864", "kB", true),
            ("2min", "120000", "ms", true),
            ("8", "8", "", true),
            ("-1", "-1", "kB", true),
            ("64MB", "65537", "kB", false),
            ("-1", "1", "", false),
            ("on", "off", "", false),
        ] {
            assert_eq!(is_same(one, other, unit), is_equal, "{one} {other} {unit}");
        }
        assert_eq!(in_suffix("65536", "kB", "MB"), Some(64));
        assert_eq!(in_suffix("1023", "kB", "MB"), Some(0));
        assert_eq!(in_suffix("16384", "8kB", ""), Some(16_384));
        assert_eq!(in_suffix("-1", "kB", "MB"), None);
    }
}
