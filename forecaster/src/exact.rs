//! JSON that gives back every floating-point number bit by bit.
//!
//! serde_json reads decimal numbers fast and up to one unit in the last place off, which would make forecasts after a
//! restart differ from those without. So a number that is not whole is written as a text of its bits.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const BITS: &str = "f64:";
/// Put before a text that could be taken for the bits of a number, or for such a text.
const TEXT: &str = "txt:";

/// Writes a value.
pub(crate) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut tree = serde_json::to_value(value)?;
    for_each_scalar(&mut tree, &mut |scalar| {
        if let Some(number) = scalar.as_f64().filter(|_| scalar.is_f64()) {
            *scalar = Value::String(format!("{BITS}{:x}", number.to_bits()));
        } else if let Some(text) = scalar.as_str().filter(|text| text.starts_with(BITS) || text.starts_with(TEXT)) {
            *scalar = Value::String(format!("{TEXT}{text}"));
        }
    });
    serde_json::to_vec(&tree)
}

/// Reads what [`to_vec`] has written.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut tree = serde_json::from_slice(bytes)?;
    for_each_scalar(&mut tree, &mut |scalar| {
        let Value::String(text) = &*scalar else { return };
        if let Some(bits) = text.strip_prefix(BITS).and_then(|bits| u64::from_str_radix(bits, 16).ok()) {
            *scalar = Value::from(f64::from_bits(bits));
        } else if let Some(text) = text.strip_prefix(TEXT) {
            *scalar = Value::from(text);
        }
    });
    serde_json::from_value(tree)
}

fn for_each_scalar(tree: &mut Value, change: &mut impl FnMut(&mut Value)) {
    match tree {
        Value::Array(values) => values.iter_mut().for_each(|value| for_each_scalar(value, change)),
        Value::Object(fields) => fields.values_mut().for_each(|value| for_each_scalar(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => change(tree),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn numbers_and_texts_come_back_as_they_were() {
        // Fractions of many digits, of which plain JSON misses about one in ten.
        let numbers: Vec<f64> =
            (1..2_000).map(|n| f64::from(n).sqrt() * 1e3).chain([0.0, -0.0, f64::MAX, f64::MIN_POSITIVE]).collect();
        let texts = ["f64:0", "txt:f64:0", "plain", ""].map(str::to_owned);
        let value = BTreeMap::from([("numbers", (numbers, 7_i64, texts, Some(0.1_f32)))]);
        let bytes = to_vec(&value).expect("writes");
        let back: BTreeMap<String, (Vec<f64>, i64, [String; 4], Option<f32>)> = from_slice(&bytes).expect("reads");
        let (numbers, whole, texts, single) = &back["numbers"];
        let same = numbers.iter().zip(&value["numbers"].0).all(|(back, number)| back.to_bits() == number.to_bits());
        assert!(same && numbers.len() == value["numbers"].0.len());
        assert_eq!((*whole, texts, *single), (7, &value["numbers"].2, Some(0.1)));
        assert!(from_slice::<Vec<f64>>(b"[\"f64:zz\"]").is_err());
    }
}
