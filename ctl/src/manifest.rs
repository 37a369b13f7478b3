//! Objects from files: -f FILE, -f DIRECTORY (with -R its folders too), -f - for standard input; YAML or JSON, lists
//! unpacked.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use crate::error::Result;
use crate::flags::Args;

/// Flags of verbs that read objects from files.
pub(crate) const FLAGS: &str = "
  -f, --filename=,  Files or directories that hold the objects, or - for standard input
  -R, --recursive   Process the directories of -f recursively
  -k, --kustomize=  Not supported
";

/// The largest input that is read.
const LIMIT: u64 = 256 << 20;

/// An object and where it was read.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub object: Value,
    /// The file, or `STDIN`.
    pub source: String,
}

/// The objects of all -f flags, in order.
pub(crate) fn read(args: &Args) -> Result<Vec<Manifest>> {
    if args.has("kustomize") {
        bail!("kustomize directories are not supported: build them with kustomize and apply the result with -f -");
    }
    let mut manifests = Vec::new();
    for name in args.all("filename") {
        if name == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().take(LIMIT).read_to_end(&mut bytes).context("read standard input")?;
            parse(&bytes, "STDIN", &mut manifests)?;
            continue;
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            bail!("{name}: fetch it yourself and give it with -f -: this command reaches the cluster only");
        }
        let path = Path::new(name);
        if !path.exists() {
            bail!("the path {name:?} does not exist");
        }
        let files = if path.is_dir() { directory(path, args.on("recursive"))? } else { vec![path.to_owned()] };
        for file in files {
            let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            parse(&bytes, &file.display().to_string(), &mut manifests)?;
        }
    }
    if manifests.is_empty() && !args.all("filename").is_empty() {
        bail!("no objects passed to {}", args.verb);
    }
    Ok(manifests)
}

/// The manifests of a directory, sorted by name.
fn directory(path: &Path, is_recursive: bool) -> Result<Vec<PathBuf>> {
    let doing = || format!("read directory {}", path.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).with_context(doing)? {
        entries.push(entry.with_context(doing)?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    let is_manifest = |entry: &PathBuf| entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    if !is_recursive && !entries.iter().any(is_manifest) {
        bail!("error reading [{}]: recognized file extensions are [.json .yaml .yml]", path.display());
    }
    for entry in entries {
        if entry.is_dir() {
            if is_recursive {
                files.extend(directory(&entry, true)?);
            }
        } else if is_manifest(&entry) {
            files.push(entry);
        }
    }
    Ok(files)
}

/// Appends the objects of a text.
pub(crate) fn parse(bytes: &[u8], source: &str, into: &mut Vec<Manifest>) -> Result<()> {
    let wrong = |why: String| anyhow!("error parsing {source}: {why}");
    // Several JSON objects in a row are no YAML; YAML may begin with a brace, too.
    let json: serde_json::Result<Vec<Value>> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let values: Vec<Value> = if let Some(values) = json.ok().filter(|_| is_json) {
        values
    } else {
        let documents =
            api::yaml::parse_all(bytes).map_err(|error| wrong(format!("error converting YAML to JSON: {error}")))?;
        documents.into_iter().map(|d| d.value).collect()
    };
    for value in values {
        unpack(value, source, into)?;
    }
    Ok(())
}

const IGNORE: &str = "if you choose to ignore these errors, turn validation off with --validate=false";

fn unpack(value: Value, source: &str, into: &mut Vec<Manifest>) -> Result<()> {
    if !value.is_object() {
        bail!("error validating {source:?}: error validating data: invalid object to validate; {IGNORE}");
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let unset: Vec<&str> =
        [("apiVersion", &version), ("kind", &kind)].iter().filter(|(_, v)| v.is_empty()).map(|(k, _)| *k).collect();
    match unset.as_slice() {
        [] => {}
        [one] => bail!("error validating {source:?}: error validating data: {one} not set; {IGNORE}"),
        _ => bail!("error validating {source:?}: error validating data: [apiVersion not set, kind not set]; {IGNORE}"),
    }
    match (kind.ends_with("List"), value) {
        (true, Value::Object(mut list)) if list.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = list.remove("items") {
                for item in items {
                    unpack(item, source, into)?;
                }
            }
        }
        (_, object) => into.push(Manifest { object, source: source.to_owned() }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(text: &str) -> Result<Vec<String>> {
        let mut manifests = Vec::new();
        parse(text.as_bytes(), "x.yaml", &mut manifests)?;
        let name = |m: &Manifest| m.object.pointer("/metadata/name").unwrap().as_str().unwrap().to_owned();
        Ok(manifests.iter().map(name).collect())
    }

    #[test]
    fn documents_and_lists_are_unpacked() {
        let pod = |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
        assert_eq!(names(&format!("{}\n---\n---\n{}\n", pod("a"), pod("b"))).unwrap(), ["a", "b"]);
        let list = format!("apiVersion: v1\nkind: List\nitems: [{}, {}]\n", pod("a"), pod("b"));
        assert_eq!(names(&list).unwrap(), ["a", "b"]);
        let pod = |name: &str| format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}}}}"#);
        assert_eq!(names(&format!("{} {}", pod("a"), pod("b"))).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_object() {
        for (text, error) in [
            ("kind: Pod", "error validating \"x.yaml\": error validating data: apiVersion not set; "),
            ("a: b", "error validating \"x.yaml\": error validating data: [apiVersion not set, kind not set]; "),
        ] {
            assert_eq!(names(text).unwrap_err().to_string(), format!("{error}{IGNORE}"));
        }
        assert!(names("a: [").unwrap_err().to_string().starts_with("error parsing x.yaml: error converting"));
    }
}
