//! YAML as plain values, for kubeconfig files: mappings, lists and texts. A word that stands for nothing is null.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// What a list or mapping has so far.
enum Level {
    Mapping(Map<String, Value>, Option<String>),
    List(Vec<Value>),
}

/// The first document of a text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut levels: Vec<Level> = Vec::new();
    for parsed in Parser::new_from_str(text) {
        let (event, _) = parsed.map_err(|error| format!("it is no YAML: {error}"))?;
        let ended = match event {
            Event::MappingStart(..) => {
                levels.push(Level::Mapping(Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) => {
                levels.push(Level::List(Vec::new()));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match levels.pop() {
                Some(Level::Mapping(map, _)) => Value::Object(map),
                Some(Level::List(list)) => Value::Array(list),
                None => Value::Null,
            },
            Event::Scalar(text, style, ..) => {
                if let Some(Level::Mapping(_, key @ None)) = levels.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                let is_nothing = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null");
                if is_nothing { Value::Null } else { Value::String(text.into_owned()) }
            }
            Event::Alias(_) => return Err("an alias (`*name`) is not followed: write it out".to_owned()),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
        };
        match levels.last_mut() {
            None => return Ok(ended),
            Some(Level::List(list)) => list.push(ended),
            Some(Level::Mapping(map, key)) => {
                let Some(key) = key.take() else { return Err("a key of a mapping is no plain text".to_owned()) };
                map.insert(key, ended);
            }
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mappings_lists_and_texts_come_out() {
        let yaml = "# hi\na: {b: 'null', c: [1, 2]}\nd:\n- e: true\n  f:\n- ~\nj: |\n  two\n  lines\n";
        let expected = json!({
            "a": {"b": "null", "c": ["1", "2"]}, "d": [{"e": "true", "f": null}, null], "j": "two\nlines\n",
        });
        assert_eq!(parse(yaml), Ok(expected));
        assert_eq!(parse("{\"a\": \"b\"}"), Ok(json!({"a": "b"})), "JSON is YAML");
        assert_eq!(parse(""), Ok(Value::Null));
        for (text, said) in [("a: [", "no YAML"), ("a: &x 1\nb: *x", "alias"), ("? [a]\n: 1", "no plain text")] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
