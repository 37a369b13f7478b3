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
    Target { name: "log-payload", shape: Shape::Bytes, inputs: 8000, corpus: payloads, run: log_payload },
    Target { name: "log-segment", shape: Shape::Bytes, inputs: 4000, corpus: whole_segments, run: log_segment },
    Target { name: "raft-message", shape: Shape::Bytes, inputs: 4000, corpus: messages, run: raft_message },
    Target { name: "command", shape: Shape::Bytes, inputs: 8000, corpus: commands, run: decode_command },
    Target { name: "snapshot", shape: Shape::Bytes, inputs: 800, corpus: snapshots, run: snapshot },
    Target { name: "image-archive", shape: Shape::Bytes, inputs: 300, corpus: archives, run: archive },
    Target { name: "image-config", shape: Shape::Json, inputs: 3000, corpus: configs, run: config },
    Target { name: "image-manifest", shape: Shape::Json, inputs: 3000, corpus: manifests, run: manifest },
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

/// A normal entry, changes of members, a hard state and an identity.
fn payloads() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = commands().into_iter().map(|data| [&[5, 2, 0], &data[..]].concat()).collect();
    all.push(vec![6, 2, 1, 0x08, 1, 0x10, 0, 0x18, 2]);
    all.push(vec![7, 2, 2, 0x08, 1, 0x12, 4, 0x08, 0, 0x10, 3]);
    all.push(vec![3, 1, 9]);
    all.push(vec![0, 7, 1, 1, 1, 0, 0, 0, 0]);
    all
}

fn log_payload(input: &[u8]) {
    store::untrusted::payload(input);
}

/// A segment as it lies on the disk: header, records, room.
fn whole_segments() -> Vec<Vec<u8>> {
    let header = store::wal::segment::Header { number: 1, capacity: 4096, salt: SALT, previous: 0 };
    let mut segment = header.encode().to_vec();
    let mut chain = header.chain();
    for (kind, payload) in [(Kind::HardState, &[3, 1, 9][..]), (Kind::Entry, &[1, 1, 0, 7]), (Kind::Closed, b"")] {
        let place = Place { salt: SALT, segment: 1, offset: segment.len() as u32 };
        chain = record::write(&mut segment, place, chain, 0, kind, payload);
    }
    segment.resize(segment.len() + 256, 0);
    vec![segment]
}

fn log_segment(input: &[u8]) {
    store::untrusted::segment(input);
}

/// An append with an entry, a heartbeat, a snapshot's metadata.
fn messages() -> Vec<Vec<u8>> {
    vec![
        vec![0x08, 3, 0x10, 2, 0x18, 1, 0x20, 4, 0x28, 4, 0x30, 9, 0x3a, 8, 0x10, 4, 0x18, 10, 0x22, 2, b'h', b'i'],
        vec![0x08, 8, 0x10, 2, 0x18, 1, 0x20, 4, 0x40, 9],
        vec![0x08, 7, 0x10, 2, 0x18, 1, 0x4a, 10, 0x12, 8, 0x0a, 2, 0x08, 1, 0x10, 9, 0x18, 4],
    ]
}

fn raft_message(input: &[u8]) {
    store::untrusted::message(input);
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

fn manifests() -> Vec<Vec<u8>> {
    texts(&[
        concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","#,
            r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7},"#,
            r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","#,
            r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"annotations":{"a":"b"}}]}"#
        ),
        concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","#,
            r#""manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"#,
            r#""platform":{"os":"linux","architecture":"amd64","variant":"v1"}}]}"#
        ),
        r#"{"manifests":[],"config":{"digest":"x"},"layers":null}"#,
    ])
}

fn manifest(input: &[u8]) {
    seen(kubelet_runtime::images::untrusted_manifest(input));
}
