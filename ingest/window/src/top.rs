//! `top_share(value, weight, k)`: the share of the weight that the `k` heaviest values have.
//!
//! Weights are kept for up to 1,024 values of a group, exactly; with more, those of Misra and Gries' summary, mergeable
//! as in Agarwal et al., "Mergeable Summaries" (PODS 2012): each is too low by at most 1/1,025 of the total.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::fingerprints::hash;

const CAPACITY: usize = 1_024;
const WORD: usize = 8;

/// The function, to be registered.
pub(crate) fn top_share() -> AggregateUDF {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Float64, DataType::Int64], Volatility::Immutable);
    AggregateUDF::from(TopShare { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TopShare {
    signature: Signature,
}

impl AggregateUDFImpl for TopShare {
    fn name(&self) -> &str {
        "top_share"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[top]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Top::default()))
    }
}

/// Weights by the hash of their value.
#[derive(Debug, Default, PartialEq)]
struct Top {
    k: u64,
    total: f64,
    weights: BTreeMap<u64, f64>,
}

impl Top {
    fn add(&mut self, value: u64, weight: f64) {
        *self.weights.entry(value).or_default() += weight;
        if self.weights.len() > 2 * CAPACITY {
            self.shrink();
        }
    }

    /// Keeps the heaviest, each less by the weight of the heaviest that goes.
    fn shrink(&mut self) {
        if self.weights.len() <= CAPACITY {
            return;
        }
        let mut sorted: Vec<f64> = self.weights.values().copied().collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let less = sorted.get(CAPACITY).copied().unwrap_or(0.0);
        self.weights.retain(|_, weight| {
            *weight -= less;
            *weight > 0.0
        });
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * WORD * (1 + self.weights.len()));
        bytes.extend(self.k.to_le_bytes());
        bytes.extend(self.total.to_le_bytes());
        for (value, weight) in &self.weights {
            bytes.extend(value.to_le_bytes());
            bytes.extend(weight.to_le_bytes());
        }
        bytes
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        let words: Vec<[u8; WORD]> = bytes.chunks_exact(WORD).filter_map(|word| word.try_into().ok()).collect();
        let mut pairs = words.chunks_exact(2).filter_map(|pair| <[[u8; WORD]; 2]>::try_from(pair).ok());
        let Some([k, total]) = pairs.next().filter(|_| bytes.len().is_multiple_of(2 * WORD)) else {
            return exec_err!("a damaged state of top_share");
        };
        self.k = self.k.max(u64::from_le_bytes(k));
        self.total += f64::from_le_bytes(total);
        for [value, weight] in pairs {
            self.add(u64::from_le_bytes(value), f64::from_le_bytes(weight));
        }
        Ok(())
    }

    fn share(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.weights.values().copied().collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let k = usize::try_from(self.k).unwrap_or(usize::MAX);
        (self.total > 0.0).then(|| sorted.into_iter().take(k).sum::<f64>() / self.total)
    }
}

impl Accumulator for Top {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values, weights, k] = columns else { return exec_err!("top_share takes a value, a weight and a number") };
        let (values, weights, k) =
            (values.as_string::<i32>(), weights.as_primitive::<Float64Type>(), k.as_primitive::<Int64Type>());
        if let Some(k) = k.iter().flatten().next() {
            self.k = u64::try_from(k).unwrap_or(0);
        }
        for (value, weight) in values.iter().zip(weights.iter()) {
            let Some(weight) = weight.filter(|weight| *weight > 0.0) else { continue };
            self.total += weight;
            if let Some(value) = value {
                self.add(hash([value]), weight);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first() else { return exec_err!("a state of top_share") };
        states.as_binary::<i32>().iter().flatten().try_for_each(|bytes| self.merge(bytes))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.shrink();
        Ok(ScalarValue::Float64(self.share()))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.shrink();
        Ok(vec![ScalarValue::Binary(Some(self.encode()))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.weights.len() * 4 * WORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_exact_and_many_within_the_bound() {
        let mut few = Top { k: 2, ..Top::default() };
        for (value, weight) in [(1, 5.0), (2, 3.0), (3, 2.0), (1, 5.0)] {
            few.total += weight;
            few.add(value, weight);
        }
        assert_eq!(few.share(), Some(13.0 / 15.0));

        // Ten values of 1,000 each among 20,000 of one each, in four parts that are merged.
        let mut merged = Top::default();
        for part in 0..4_u64 {
            let mut top = Top { k: 10, ..Top::default() };
            for value in 0..5_000 {
                let heavy = value % 20 == 0;
                let (value, weight) =
                    if heavy { (value % 200 / 20, 10.0) } else { (1_000 + part * 5_000 + value, 1.0) };
                top.total += weight;
                top.add(value, weight);
            }
            let state = top.encode();
            merged.merge(&state).expect("merges");
        }
        let exact = 10_000.0 / merged.total;
        let found = merged.share().expect("a share");
        assert!(found <= exact && exact - found <= 10.0 / 1_025.0, "{found} for {exact}");
        assert!(merged.weights.len() <= 2 * CAPACITY);
        merged.merge(&[1, 2, 3]).expect_err("damaged");
    }
}
