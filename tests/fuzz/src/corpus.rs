//! Inputs to begin with: the project's golden data and sample manifests.

use serde_json::Value;

/// Bodies that a reference server answered: name, JSON and protobuf in three lines each.
const GOLDEN: &str = include_str!("../../../api/src/protobuf/golden.txt");

/// Manifests as people write them.
const MANIFESTS: [&str; 8] = [
    include_str!("../../manifests/configmap.yml"),
    include_str!("../../manifests/deployment.yml"),
    include_str!("../../manifests/deployment-rolling.yml"),
    include_str!("../../manifests/ingress.yml"),
    include_str!("../../manifests/pod.yml"),
    include_str!("../../manifests/replicaset.yml"),
    include_str!("../../manifests/secret.yml"),
    include_str!("../../manifests/service-nodeport.yml"),
];

fn golden() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    let pairs: Vec<_> = lines.chunks(3).filter_map(|three| Some((*three.get(1)?, *three.get(2)?))).collect();
    pairs.into_iter()
}

/// Objects as JSON.
pub fn json() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = golden().map(|(json, _)| json.as_bytes().to_vec()).collect();
    for manifest in MANIFESTS {
        let documents = api::yaml::parse_all(manifest.as_bytes()).unwrap_or_default();
        all.extend(documents.into_iter().filter_map(|document| serde_json::to_vec(&document.value).ok()));
    }
    all
}

/// Objects as protobuf.
pub fn protobuf() -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    golden().filter_map(|(_, hex)| hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Objects as YAML.
pub fn yaml() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = MANIFESTS.iter().map(|manifest| manifest.as_bytes().to_vec()).collect();
    let read = |(json, _): (&str, _)| serde_json::from_str::<Value>(json).ok();
    all.extend(golden().filter_map(read).take(20).map(|value| api::yaml::to_string(&value).into_bytes()));
    all.extend(
        [
            "a: &x [1, 2]\nb: *x\n<<: {c: d}\n",
            "? a\n: |+\n  x\n\n",
            "%YAML 1.1\n---\na: !!binary aGk=\n...\n",
            "0644: 0o7\nyes: ~\n",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    all
}

pub fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}
