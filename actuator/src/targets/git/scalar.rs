//! One number in a YAML or JSON text (JSON is YAML), changed without touching any other byte.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::targets::governed::Failure;

/// What the parser is in the middle of.
enum Level {
    /// A mapping, the key whose value comes next, and whether the path leads here.
    Mapping(Option<String>, bool),
    /// A list, the number of what comes next, and whether the path leads here.
    List(usize, bool),
}

/// Where the number at `path` stands, without quotes. Of several documents in the text exactly one must have it.
pub(super) fn find(text: &str, path: &[String]) -> Result<Range<usize>, Failure> {
    let mut levels: Vec<Level> = Vec::new();
    let mut found = Vec::new();
    for parsed in Parser::new_from_str(text) {
        let (event, span) = parsed.map_err(|error| Failure::refused(format!("it is no YAML or JSON: {error}")))?;
        match event {
            Event::Scalar(value, style, ..) => {
                if let Some(Level::Mapping(key @ None, _)) = levels.last_mut() {
                    *key = Some(value.into_owned());
                } else {
                    if leads_on(&levels, path) && levels.len() == path.len() {
                        found.push((span.start.index()..span.end.index(), value.into_owned(), style));
                    }
                    step(&mut levels);
                }
            }
            Event::MappingStart(..) => {
                let leads = leads_on(&levels, path);
                levels.push(Level::Mapping(None, leads));
            }
            Event::SequenceStart(..) => {
                let leads = leads_on(&levels, path);
                levels.push(Level::List(0, leads));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                step(&mut levels);
            }
            Event::Alias(_) => step(&mut levels),
            Event::DocumentStart(_) | Event::DocumentEnd => levels.clear(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }
    let shown = path.join(".");
    match found.as_slice() {
        [(place, value, style)] => inner(text, place.clone(), value, *style)
            .ok_or_else(|| Failure::refused(format!("the value of `{shown}` is no plain number: {value}"))),
        [] => Err(Failure::refused(format!("it has no value at `{shown}`"))),
        _ => Err(Failure::refused(format!("it has several values at `{shown}`, in as many documents"))),
    }
}

/// Does the path lead to what comes next?
fn leads_on(levels: &[Level], path: &[String]) -> bool {
    let Some(last) = levels.last() else { return true };
    let Some(wanted) = levels.len().checked_sub(1).and_then(|depth| path.get(depth)) else { return false };
    match last {
        Level::Mapping(Some(key), leads) => *leads && key == wanted,
        // A key that is no scalar.
        Level::Mapping(None, _) => false,
        Level::List(at, leads) => *leads && wanted.parse() == Ok(*at),
    }
}

/// A value has ended.
fn step(levels: &mut [Level]) {
    match levels.last_mut() {
        Some(Level::Mapping(key, _)) => *key = if key.is_some() { None } else { Some(String::new()) },
        Some(Level::List(at, _)) => *at += 1,
        None => {}
    }
}

/// The bytes of the digits; none when something else stands there.
fn inner(text: &str, characters: Range<usize>, value: &str, style: ScalarStyle) -> Option<Range<usize>> {
    let byte = |character: usize| text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte);
    let mut place = byte(characters.start)..byte(characters.end);
    if matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
        place = place.start + 1..place.end.checked_sub(1)?;
    }
    let is_number = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
    // An anchor or a tag may stand before it.
    let before = text.get(place.clone())?.strip_suffix(value)?;
    (is_number && (before.is_empty() || before.ends_with(char::is_whitespace)))
        .then_some(place.end - value.len()..place.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, path: &[&str]) -> Result<String, String> {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        find(text, &path).map(|place| text.get(place).expect("digits").to_owned()).map_err(|failure| failure.problem)
    }

    #[test]
    fn a_number_is_found_by_its_path_and_nothing_else_is_touched() {
        let yaml = "\
# größe\nkind: Service\nspec:\n  replicas: 7\n---\nkind: Deployment\nmetadata: {name: shop, labels: {spec: 1}}
? [odd, key]\n: 1\nspec: # below\n  list:\n  - replicas: 1\n  - {replicas: '22', other: 3}\n  size: &size 4\n  again: *size
";
        assert_eq!(found(yaml, &["spec", "list", "1", "replicas"]), Ok("22".to_owned()));
        assert_eq!(found(yaml, &["spec", "list", "0", "replicas"]), Ok("1".to_owned()));
        assert_eq!(found(yaml, &["spec", "replicas"]), Ok("7".to_owned()));
        assert_eq!(found(yaml, &["spec", "size"]), Ok("4".to_owned()));
        let json = "{\"a\": [{\"b\": \"5\"},\r\n {\"b\": 66}], \"spec\": {\"replicas\": 3}}";
        assert_eq!(found(json, &["a", "1", "b"]), Ok("66".to_owned()));
        assert_eq!(found(json, &["a", "0", "b"]), Ok("5".to_owned()));
        assert_eq!(found(json, &["spec", "replicas"]), Ok("3".to_owned()));
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (text, path, said) in [
            ("a: {b: 1}", vec!["a"], "no value"),
            ("a: {b: 1}", vec!["a", "c"], "no value"),
            ("a: 1\n---\na: 2\n", vec!["a"], "several"),
            ("a: auto", vec!["a"], "no plain number"),
            ("a: 1.5", vec!["a"], "no plain number"),
            ("a: -1", vec!["a"], "no plain number"),
            ("a: \"\\x31\"", vec!["a"], "no plain number"),
            ("a: [", vec!["a"], "no YAML"),
            ("", vec!["a"], "no value"),
        ] {
            let problem = found(text, &path).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
