//! Files of dumps, for a browser to save. Only names of the right form are looked up.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use axum::extract::{Path as Segments, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::app_state::AppState;
use super::error::{ApiError, ErrorCode};
use supervisor::coredump::{CORE_FILE, FAILURE_FILE, IMAGE_FILE, is_dump_name};

/// Most bytes of a file that is served. A core file has about five MiB.
const FILE_BYTES: u64 = 64 << 20;

/// Answers with one file of one dump.
pub(super) async fn file(
    State(app): State<AppState>,
    Segments((dump, file)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let unknown =
        || ApiError::new(ErrorCode::UnknownDump, "there is no such dump, or it has been removed");
    let known = [CORE_FILE, FAILURE_FILE, IMAGE_FILE].into_iter().find(|known| *known == file);
    let (Some(folder), Some(file), true) = (app.dumps, known, is_dump_name(&dump)) else {
        return Err(unknown());
    };
    let path = folder.join(&dump).join(file);
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    let bytes = read.ok().flatten().ok_or_else(unknown)?;
    let kind = match file {
        FAILURE_FILE => "application/json",
        _ => "application/octet-stream",
    };
    let name = format!("attachment; filename=\"{dump}-{file}\"");
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(|data| data.is_file())?;
    if metadata.len() > FILE_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
