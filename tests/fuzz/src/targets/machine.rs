//! What comes from disks and from images: the store's log, commands and snapshots, and archives.

use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use kubelet_runtime::images::Store;
use store::command::{self, Command};
use store::disk::{Disk as _, RealDisk};
use store::wal::record::{self, Kind, Parsed, Place};
use store::{Compare, CompareResult, CompareTarget, Op, PutRequest, RangeRequest, TxnRequest};

use super::{Target, seen};
use crate::corpus::texts;
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target { name: "log-records", shape: Shape::Bytes, inputs: 5000, corpus: segments, run: log_records },
    Target { name: "command", shape: Shape::Bytes, inputs: 8000, corpus: commands, run: decode_command },
    Target { name: "snapshot", shape: Shape::Bytes, inputs: 800, corpus: snapshots, run: snapshot },
    Target { name: "image-archive", shape: Shape::Bytes, inputs: 300, corpus: archives, run: archive },
    Target { name: "image-config", shape: Shape::Json, inputs: 3000, corpus: configs, run: config },
];

const SALT: u64 = 7;

fn segments() -> Vec<Vec<u8>> {
    let mut segment = Vec::new();
    let mut previous = 0;
    for (kind, payload) in
        [(Kind::Identity, &b"me"[..]), (Kind::HardState, b"state"), (Kind::Entry, b"entry"), (Kind::Closed, b"")]
    {
        let place = Place { salt: SALT, segment: 1, offset: segment.len() as u32 };
        previous = record::write(&mut segment, place, previous, 0, kind, payload);
    }
    vec![segment]
}

fn log_records(input: &[u8]) {
    let mut offset = 0;
    while offset < input.len() {
        match record::parse(input, SALT, 1, offset) {
            Parsed::Record(record) => {
                assert!(record.end > offset && record.end <= input.len(), "a record ends outside of its file");
                offset = record.end;
            }
            Parsed::Blank | Parsed::Bad => offset += 4,
        }
    }
}

fn commands() -> Vec<Vec<u8>> {
    let key = |text: &'static str| Bytes::from_static(text.as_bytes());
    let compare = |target, result| Compare { key: key("/registry/a"), end: Bytes::new(), target, result };
    let txn = TxnRequest {
        compare: vec![
            compare(CompareTarget::ModRevision(7), CompareResult::Equal),
            compare(CompareTarget::Value(key("v")), CompareResult::NotEqual),
        ],
        success: vec![
            Op::Put(PutRequest {
                key: key("/registry/a"),
                value: key("value"),
                lease: 3,
                prev_kv: true,
                ..PutRequest::default()
            }),
            Op::Delete { start: key("a"), end: key("b"), prev_kv: false },
        ],
        failure: vec![
            Op::Range(RangeRequest { start: key("a"), ..RangeRequest::default() }),
            Op::Txn(TxnRequest::default()),
        ],
    };
    let all = [
        Command::Txn(txn),
        Command::Compact { revision: 9 },
        Command::LeaseGrant { id: 1, ttl: 60 },
        Command::LeaseRevoke { id: 1 },
        Command::LeaseCheckpoint { remaining: vec![(1, 2), (3, 4)] },
    ];
    all.iter().map(|command| command::encode(5, command).to_vec()).collect()
}

fn decode_command(input: &[u8]) {
    if let Ok((request, command)) = command::decode(Bytes::copy_from_slice(input)) {
        let encoded = command::encode(request, &command);
        let again = command::decode(encoded.clone());
        assert!(
            again.is_ok_and(|(id, command)| command::encode(id, &command) == encoded),
            "an entry is not read again"
        );
    }
}

/// A directory of this process.
static SCRATCH: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| tempfile::tempdir().ok());

fn scratch() -> &'static Path {
    SCRATCH.as_ref().map_or(Path::new("/nonexistent"), |dir| dir.path())
}

fn snapshots() -> Vec<Vec<u8>> {
    let state = store::core::state::State::default();
    let dir = scratch().join("golden");
    let saved = RealDisk.create_dir(&dir).is_ok() && store::snapshot::save(&RealDisk, &dir, &state).is_ok();
    let names = if saved { RealDisk.list(&dir).unwrap_or_default() } else { Vec::new() };
    let mut all: Vec<_> = names.iter().filter_map(|name| RealDisk.read(&dir.join(name)).ok()).collect();
    all.extend(texts(&["", "snapshot"]));
    all
}

fn snapshot(input: &[u8]) {
    let dir = scratch().join("snapshots");
    if RealDisk.create_dir(&dir).is_ok() && std::fs::write(dir.join(store::snapshot::file_name(0)), input).is_ok() {
        seen(store::snapshot::load(&RealDisk, &dir, 0));
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        // Writing to memory does not fail.
        seen(builder.append_data(&mut header, name, *content));
    }
    builder.into_inner().unwrap_or_default()
}

fn archives() -> Vec<Vec<u8>> {
    let layer = tar(&[("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), ("etc/.wh.x", b""), ("a/.wh..wh..opq", b"")]);
    let config =
        br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = br#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":["layer.tar"]}]"#;
    let docker = tar(&[("manifest.json", manifest), ("config.json", config), ("layer.tar", &layer)]);
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":2}]}"#;
    let oci =
        tar(&[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index), ("blobs/sha256/00", b"{}")]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = if packed.write_all(&docker).is_ok() { packed.finish().unwrap_or_default() } else { Vec::new() };
    vec![docker, oci, packed]
}

fn archive(input: &[u8]) {
    let root = scratch().join("images");
    let file = scratch().join("image.tar");
    let Ok(store) = Store::open(&root, Vec::new()) else { return };
    if std::fs::write(&file, input).is_ok() && store.load(&file).is_err() {
        assert!(store.all().is_ok_and(|images| images.by_id.is_empty()), "a refused archive left an image");
    }
    // A directory that cannot be removed is only left in the temporary one.
    seen(std::fs::remove_dir_all(&root));
}

fn configs() -> Vec<Vec<u8>> {
    texts(&[concat!(
        r#"{"architecture":"amd64","os":"linux","config":{"User":"1:2","Env":["A=b"],"Cmd":["sh"],"Entrypoint":["/x"],"WorkingDir":"/","StopSignal":"SIGTERM"},"#,
        r#""rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#
    )])
}

fn config(input: &[u8]) {
    if let Ok(config) = kubelet_runtime::images::ImageConfig::parse(input) {
        seen(config.chain_ids());
    }
}
