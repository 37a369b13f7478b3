//! LIST: a consistent snapshot, filtered, cut into pages.

use std::sync::Arc;

use api::field::go_quote;
use api::{ErrorList, FieldError, Path, Reason, Status};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Call;
use super::render::Renderer;
use crate::cache::{Cached, Snapshot, View};
use crate::http::Response;
use crate::http::response;

/// Where a list goes on: upstream's continue token.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// What a list answers with.
pub struct Page {
    pub revision: i64,
    pub items: Vec<Arc<Cached>>,
    /// Token of the next page; empty on the last.
    pub continues: String,
    /// Items after this page, when that is known.
    pub remaining: Option<usize>,
    /// Revision of the resource's newest change in it.
    pub changed: i64,
    /// Whether it is all of its namespace.
    pub is_whole: bool,
}

impl Page {
    fn of(snapshot: &Snapshot, items: Vec<Arc<Cached>>) -> Self {
        let (revision, changed) = (snapshot.revision, snapshot.changed);
        Self { revision, items, continues: String::new(), remaining: None, changed, is_whole: false }
    }

    /// Items that come from no store and have no revision.
    pub fn unversioned(items: Vec<Arc<Cached>>) -> Self {
        Self { revision: 0, items, continues: String::new(), remaining: None, changed: 0, is_whole: false }
    }
}

/// Larger lists are not kept joined, in bytes.
const SHARED_BYTES: usize = 16 << 20;

/// Lists of more items than this are joined once for all who ask for the same.
const SHARED_FROM: usize = 64;

/// Answers a list request.
pub async fn list(call: &Call<'_>) -> Result<Response, Status> {
    let view = call.view()?;
    let renderer = Renderer::new(call);
    let (snapshot, after) = begin(call).await?;
    if renderer.is_whole()
        && is_all(call, &view, &after)
        && let Some(items) = call.row.cache.joined_items(call.namespace, snapshot.changed)
    {
        return Ok(joined_answer(call, &Page::of(&snapshot, Vec::new()), items));
    }
    let page = page_of(call, &view, &snapshot, &after);
    Ok(renderer.list(call, page))
}

/// The page that the parameters ask for.
pub async fn page(call: &Call<'_>, view: &View) -> Result<Page, Status> {
    let (snapshot, after) = begin(call).await?;
    Ok(page_of(call, view, &snapshot, &after))
}

/// The state that the parameters ask for, and the key behind which the page begins.
async fn begin(call: &Call<'_>) -> Result<(Snapshot, String), Status> {
    check_options(call)?;
    match &*call.params.continues {
        "" => Ok((snapshot(call).await?, String::new())),
        token => {
            let token = decode_token(token)?;
            Ok((continued(call, token.rv).await?, token.start.trim_end_matches('\0').to_owned()))
        }
    }
}

/// How many objects a page has at most.
fn limit(call: &Call<'_>) -> usize {
    let params = &call.params;
    if params.limit == 0 || params.resource_version == "0" { usize::MAX } else { params.limit as usize }
}

/// Whether all objects of the namespace are asked for.
fn is_all(call: &Call<'_>, view: &View, after: &str) -> bool {
    after.is_empty() && limit(call) == usize::MAX && !view.selects()
}

fn page_of(call: &Call<'_>, view: &View, snapshot: &Snapshot, after: &str) -> Page {
    if let (Some(name), true) = (view.exact_name(), !call.row.resource.namespaced || !view.namespace.is_empty()) {
        let key = call.row.key(&view.namespace, name);
        let items = snapshot.objects.get(key.as_str()).filter(|o| view.matches(o)).cloned().into_iter().collect();
        return Page::of(snapshot, items);
    }
    let mut matching = snapshot.range(&view.namespace, after).filter(|o| view.matches(o));
    let items: Vec<_> = matching.by_ref().take(limit(call)).cloned().collect();
    let mut page = Page::of(snapshot, items);
    page.is_whole = is_all(call, view, after);
    if let (Some(_), Some(last)) = (matching.next(), page.items.last()) {
        page.continues = encode_token(snapshot.revision, &last.key);
        if !view.selects() {
            page.remaining = Some(1 + matching.count());
        }
        call.row.cache.keep(snapshot);
    }
    page
}

/// The snapshot of a list's first page.
async fn snapshot(call: &Call<'_>) -> Result<Snapshot, Status> {
    let cache = &call.row.cache;
    let progress = &call.server.caches.progress;
    let revision = parse_revision(&call.params.resource_version)
        .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
    match (revision, &*call.params.resource_version_match) {
        (Some(revision), "Exact") => exact(call, revision).await,
        (None, _) => {
            call.server.fresh().await?;
            Ok(cache.snapshot(progress.applied()))
        }
        (Some(0), _) => Ok(cache.snapshot(progress.applied())),
        (Some(revision), matching) => {
            call.server.reached(revision).await?;
            if matching.is_empty() && call.params.limit > 0 {
                return exact(call, revision).await;
            }
            Ok(cache.snapshot(progress.applied()))
        }
    }
}

/// The state as of one revision, from memory or else from the store's history.
async fn exact(call: &Call<'_>, revision: i64) -> Result<Snapshot, Status> {
    call.server.reached(revision).await?;
    let applied = call.server.caches.progress.applied();
    if let Some(snapshot) = call.row.cache.snapshot_at(revision, applied) {
        return Ok(snapshot);
    }
    match call.server.caches.read_at(&call.row.cache, revision).await {
        Ok(snapshot) => Ok(snapshot),
        Err(error) if error.is_compacted() => {
            Err(Status::expired("The resourceVersion for the provided list is too old."))
        }
        Err(error) => Err(Status::internal(error)),
    }
}

async fn continued(call: &Call<'_>, revision: i64) -> Result<Snapshot, Status> {
    if revision <= 0 {
        call.server.fresh().await?;
        return Ok(call.row.cache.snapshot(call.server.caches.progress.applied()));
    }
    exact(call, revision).await.map_err(|status| match status.reason {
        Some(Reason::Expired) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new \
             list without the continue parameter.",
        ),
        _ => status,
    })
}

/// Reads a resource version; `None` when it is empty. What an error is made of differs by verb.
pub fn parse_revision(text: &str) -> Result<Option<i64>, FieldError> {
    match text {
        "" => Ok(None),
        _ => match text.parse::<i64>() {
            Ok(revision) if revision >= 0 => Ok(Some(revision)),
            _ => {
                let why = format!("strconv.ParseUint: parsing {}: invalid syntax", go_quote(text));
                Err(FieldError::invalid(&Path::new("resourceVersion"), text, why))
            }
        },
    }
}

/// Upstream's `ValidateListOptions`, for lists.
fn check_options(call: &Call<'_>) -> Result<(), Status> {
    let params = &call.params;
    let (matching, version) = (&*params.resource_version_match, &*params.resource_version);
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if !matching.is_empty() {
        if version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if !params.continues.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if params.send_initial_events.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden(&Path::new("sendInitialEvents"), why));
    }
    if !errors.is_empty() {
        return Err(super::options::invalid("ListOptions", &errors));
    }
    if !params.continues.is_empty() && !matches!(version, "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

fn encode_token(revision: i64, last: &str) -> String {
    let token = Token { v: TOKEN_VERSION.to_owned(), rv: revision, start: format!("{last}\0") };
    let json = serde_json::to_vec(&token).unwrap_or_else(|_| unreachable!("a token is text and a number"));
    URL_SAFE_NO_PAD.encode(json)
}

pub fn decode_token(token: &str) -> Result<Token, Status> {
    let bad = |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(length) => length / 4 * 4,
            DecodeError::InvalidPadding => token.len(),
        };
        bad(format!("illegal base64 data at input byte {at}"))
    })?;
    let token: Token = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
    if token.v != TOKEN_VERSION {
        return Err(bad(format!("server does not recognize this encoded version {}", token.v)));
    }
    let wrong = |what: &str| Status::bad_request(format!("invalid continue token: {what} (version {TOKEN_VERSION})"));
    if token.rv == 0 {
        return Err(wrong("continue key is not valid: incorrect encoded start resourceVersion"));
    }
    if token.start.is_empty() {
        return Err(wrong("continue key is not valid: encoded start key empty"));
    }
    if token.start.split('/').any(|part| matches!(part, "." | "..")) || token.start.contains("//") {
        return Err(bad(token.start));
    }
    Ok(token)
}

/// The JSON before a list's items.
pub fn head(kind: &str, api_version: &str, page: &Page) -> Bytes {
    let mut meta = match page.revision {
        0 => String::new(),
        revision => format!("\"resourceVersion\":\"{revision}\""),
    };
    if !page.continues.is_empty() {
        meta.push_str(&format!(",\"continue\":\"{}\"", page.continues));
    }
    if let Some(remaining) = page.remaining {
        meta.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    Bytes::from(format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{{meta}}},"))
}

const OPEN: Bytes = Bytes::from_static(b"\"items\":[");
const CLOSE: Bytes = Bytes::from_static(b"]}\n");

fn head_of(call: &Call<'_>, page: &Page) -> Bytes {
    let resource = &call.row.resource;
    head(&resource.list_kind, &resource.api_version(), page)
}

fn joined_answer(call: &Call<'_>, page: &Page, items: Bytes) -> Response {
    response::json_pieces(call.accept, call.gzip, vec![head_of(call, page), OPEN, items, CLOSE])
}

/// Whole objects as a list, without managedFields if it is to be lean.
pub fn whole(call: &Call<'_>, page: &Page, lean: bool) -> Response {
    let row = call.row;
    let size: usize = page.items.iter().map(|i| i.wire.len()).sum();
    let shared = page.items.len() > SHARED_FROM && size < SHARED_BYTES;
    if page.is_whole && row.is_storage() && shared && !lean {
        let join = || Bytes::from(joined(&page.items));
        if let Some(items) = row.cache.joined(call.namespace, page.changed, join) {
            return joined_answer(call, page, items);
        }
    }
    let mut pieces = Vec::with_capacity(page.items.len() * 3 + 3);
    pieces.extend([head_of(call, page), OPEN]);
    for (n, item) in page.items.iter().enumerate() {
        if n > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        if lean && row.is_storage() {
            let cut = item.managed_fields();
            pieces.extend([item.wire.slice(..cut.start), item.wire.slice(cut.end..)]);
        } else {
            pieces.push(super::render::wire_of(row, item));
        }
    }
    pieces.push(CLOSE);
    response::json_pieces(call.accept, call.gzip, pieces)
}

fn joined(items: &[Arc<Cached>]) -> Vec<u8> {
    let size = items.iter().map(|i| i.wire.len() + 1).sum();
    let mut out = Vec::with_capacity(size);
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&item.wire);
    }
    out
}
