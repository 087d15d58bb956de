//! What events are grouped by, as the text of a key.
//!
//! One field is its plain value, so that the key of an address is the address; the values of
//! several fields, or of none, are a JSON array of texts and nulls.

/// The key of these values, which are in the order of the fields. A field without a value and one
/// with an empty value are one key where they are the only field.
pub fn encode(values: &[Option<&str>]) -> String {
    match values {
        [only] => only.unwrap_or_default().to_owned(),
        // A list of texts can always be written.
        _ => serde_json::to_string(values).unwrap_or_default(),
    }
}

/// The values in a key, of which there are as many as fields. A key of another form, such as one that was cut, is the
/// first value.
pub fn decode(key: &str, fields: usize) -> Vec<Option<String>> {
    if fields != 1
        && let Ok(mut values) = serde_json::from_str::<Vec<Option<String>>>(key)
    {
        values.resize(fields, None);
        return values;
    }
    let mut values = vec![None; fields];
    if let Some(first) = values.first_mut() {
        *first = Some(key.to_owned()).filter(|key| !key.is_empty());
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn values_come_back(values in vec(option::of("\\PC{1,9}"), 0..5)) {
            let texts: Vec<_> = values.iter().map(Option::as_deref).collect();
            prop_assert_eq!(decode(&encode(&texts), values.len()), values);
        }

        #[test]
        fn any_key_is_read(key in "\\PC{0,20}", fields in 0usize..5) {
            prop_assert_eq!(decode(&key, fields).len(), fields);
        }
    }

    #[test]
    fn one_field_is_its_plain_value_and_several_are_an_array() {
        assert_eq!(encode(&[Some("192.0.2.1")]), "192.0.2.1");
        assert_eq!(encode(&[Some("[\"a\"]")]), "[\"a\"]");
        assert_eq!(encode(&[Some("192.0.2.1"), None]), r#"["192.0.2.1",null]"#);
        assert_eq!(
            (encode(&[]), encode(&[None])),
            ("[]".to_owned(), String::new())
        );
    }
}
