//! The footer of a file with a note in it, from which readers of Parquet learn the same as before.

use std::path::Path;

use parquet::errors::Result;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaDataBuilder};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};

use super::footer;

/// Under which key the manifest of an output stands.
pub const MANIFEST_KEY: &str = "gspo_rs_manifest";

/// The footer of the file `source`, to its end, with `note` under [`MANIFEST_KEY`].
///
/// Without `rows` it is that of a file of the same columns and no rows.
///
/// # Errors
/// If `source` is no Parquet file.
pub fn with_note(source: &Path, note: &str, rows: bool) -> Result<Vec<u8>> {
    let (source, _) = footer::open(source, |_| false)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&source.0)?;
    let file = metadata.file_metadata();
    let mut said = file.key_value_metadata().cloned().unwrap_or_default();
    said.retain(|kv| kv.key != MANIFEST_KEY);
    said.push(KeyValue::new(MANIFEST_KEY.to_owned(), note.to_owned()));
    let groups = if rows { metadata.row_groups() } else { &[] };
    let noted = FileMetaData::new(
        file.version(),
        if rows { file.num_rows() } else { 0 },
        file.created_by().map(str::to_owned),
        Some(said),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let noted = ParquetMetaDataBuilder::new(noted).set_row_groups(groups.to_vec());
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &noted.build()).finish()?;
    Ok(bytes)
}
