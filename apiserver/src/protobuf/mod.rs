//! Bodies in `application/vnd.kubernetes.protobuf`, which kubectl and components send: read into the same JSON values
//! that other bodies become. Answers are never protobuf; clients accept JSON beside it.

mod decode;
mod messages;

use api::Status;
use serde_json::Value;

pub use decode::Error;

/// The media type.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with; an envelope (`runtime.Unknown`) follows.
const MAGIC: &[u8] = b"k8s\0";

/// A body as a JSON value with `apiVersion` and `kind`.
pub fn to_value(body: &[u8]) -> Result<Value, Status> {
    read(body).map_err(|e| Status::bad_request(format!("the object provided is unrecognized: {e}")))
}

fn read(body: &[u8]) -> Result<Value, Error> {
    let body = body.strip_prefix(MAGIC).ok_or(Error("the body has no protobuf prefix".to_owned()))?;
    let envelope = decode::envelope(body)?;
    let name = messages::name_of(&envelope.api_version, &envelope.kind);
    let message =
        messages::get(&name).or_else(|| messages::get(&format!("meta/v1.{}", envelope.kind))).ok_or_else(|| {
            Error(format!("no protobuf form of {}, Kind={} is known", envelope.api_version, envelope.kind))
        })?;
    let mut object = decode::message(message, envelope.raw, 0)?;
    object.insert("apiVersion".to_owned(), envelope.api_version.into());
    object.insert("kind".to_owned(), envelope.kind.into());
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
    }

    #[test]
    fn reads_a_config_map() {
        let metadata = [field(1, b"a"), field(2, b""), field(3, b"ns")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let binary = [field(1, b"b"), field(2, &[0, 255])].concat();
        let raw = [field(1, &metadata), field(2, &entry), field(3, &binary), vec![4 << 3, 0]].concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"},
            "data": {"k": "v"}, "binaryData": {"b": "AP8="}, "immutable": false});
        assert_eq!(to_value(&body("v1", "ConfigMap", &raw)).unwrap(), expected);
    }

    #[test]
    fn inlines_and_keeps_zeros_that_mean_something() {
        let volume = [field(1, b"v"), field(2, &field(2, &field(1, b"")))].concat();
        let spec = [field(1, &volume), vec![4 << 3, 0]].concat();
        let value = to_value(&body("v1", "Pod", &field(2, &spec))).unwrap();
        let expected = json!({"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0});
        assert_eq!(value["spec"], expected);
    }

    #[test]
    fn refuses_damage() {
        assert!(to_value(b"{}").is_err());
        for cut in 4..12 {
            let whole = body("v1", "ConfigMap", &field(1, &field(1, b"a")));
            assert!(to_value(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(to_value(&body("v1", "Nothing", b"")).is_err());
        assert!(to_value(&body("v1", "ConfigMap", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])).is_err());
    }
}
