//! Scores written as Parquet: beside the columns of a file whose bytes are copied, or alone.

mod cells;
mod column_chunk;
mod columns;
mod footer;
mod io;
mod kept_schema;
pub mod note;
pub mod pages;
mod rle_hybrid;
mod thrift;

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use parquet::basic::{Repetition, Type as Physical};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::ChunkReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use rayon::prelude::*;

use self::column_chunk::Chunk;
use self::columns::{Column, ScoreRows};
use self::io::Hashed;
use self::note::MANIFEST_KEY;
use super::scores::Scores;
use crate::pool::Cancel;

/// Rows per row group of a file of scores alone.
const ROW_GROUP: u64 = 1 << 18;

/// The columns that are written, in their order; of advantages there is one for each estimator.
const COLUMNS: [(Physical, Column); 6] = [
    (Physical::DOUBLE, Column::Rank),
    (Physical::DOUBLE, Column::Percentile),
    (Physical::DOUBLE, Column::Advantage),
    (Physical::INT64, Column::Size),
    (Physical::DOUBLE, Column::Mean),
    (Physical::DOUBLE, Column::Std),
];

/// A column that is written: its name, its type, and which of the scores it is of.
struct Added<'a> {
    name: &'a str,
    physical: Physical,
    column: Column,
    of: usize,
}

fn added(names: &[String]) -> Vec<Added<'_>> {
    let estimators = names.len() + 1 - COLUMNS.len();
    let columns = COLUMNS.iter().flat_map(|&(physical, column)| {
        let several = matches!(column, Column::Advantage);
        (0..if several { estimators } else { 1 }).map(move |of| (physical, column, of))
    });
    let pairs = names.iter().zip(columns);
    pairs
        .map(|(name, (physical, column, of))| Added {
            name,
            physical,
            column,
            of,
        })
        .collect()
}

/// What was written: rows, bytes and the XXH3 digest of the bytes.
#[derive(Debug, Clone, Copy)]
pub struct WriteSummary {
    /// Rows of the file.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3 with 128 bits.
    pub digest: u128,
}

/// The rows of `scores` from `start` on, given as they are written, until `cancel` is asked to.
#[allow(
    missing_debug_implementations,
    reason = "the scores are the rows of a data set"
)]
pub struct Feed<'a> {
    /// All rows, once for each estimator; of the second and later ones, the advantages count.
    pub scores: Vec<&'a mut Scores>,
    /// What the columns are called: six, and one more for each more estimator.
    pub names: &'a [String],
    /// The first row that is written.
    pub start: u64,
    /// Looked at once a row group.
    pub cancel: &'a Cancel,
}

impl Feed<'_> {
    fn rows(&mut self, from: u64, to: u64) -> Result<Vec<ScoreRows<'_>>> {
        self.cancel.check().map_err(external)?;
        let (from, to) = (self.start + from, self.start + to);
        let each = self.scores.iter_mut();
        each.map(|scores| ScoreRows::of(scores, from, to).map_err(external))
            .collect()
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Writes `target`: the columns of `source` but those to `drop`, byte for byte, and the scores.
///
/// # Errors
/// If `source` is no Parquet file or not of as many rows as `rows`, or a disk fails.
pub fn append(
    source: &Path,
    target: &Path,
    rows: u64,
    drop: &[String],
    feed: &mut Feed<'_>,
) -> Result<WriteSummary> {
    let (source, footer) = footer::open(source, |_| true)?;
    if footer.rows.cast_unsigned() != rows {
        let problem = format!("it has {} rows where it had {rows} before", footer.rows);
        return Err(refusal(problem));
    }
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&source.0)?;
    let file = metadata.file_metadata();
    let root = file.schema_descr().root_schema();
    let stays = |name: &str| !drop.iter().any(|dropped| dropped == name);
    let added = added(feed.names);
    let kept = root.get_fields().iter().filter(|field| stays(field.name()));
    let fields = kept.cloned().chain(fields(&added)?);
    let said = key_values(&metadata, &added, stays)?;
    let mut writer = create(target, root.name(), fields.collect(), said)?;
    let mut start = 0;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let mut out = writer.next_row_group()?;
        let stop = start + u64::try_from(group.num_rows()).unwrap_or(0);
        let found = feed.rows(start, stop)?;
        let copied = || {
            let columns = group.columns().iter().zip(&footer.groups[number].columns);
            let mut kept = columns.filter(|(column, _)| stays(&column.column_path().parts()[0]));
            kept.try_for_each(|(column, place)| {
                pages::check_column(&source, place, number)?;
                splice(&mut out, &source, whole(column, place)?, group.num_rows())
            })
        };
        let (copied, encoded) = rayon::join(copied, || encode(&found, &added));
        copied?;
        add(&mut out, encoded?)?;
        out.close()?;
        start = stop;
    }
    finish(writer, rows)
}

/// Writes `target`: the scores alone, `rows` of them.
///
/// # Errors
/// If a disk fails.
pub fn alone(target: &Path, rows: u64, feed: &mut Feed<'_>) -> Result<WriteSummary> {
    let added = added(feed.names);
    let mut writer = create(target, "schema", fields(&added)?, Vec::new())?;
    let mut ready: Option<Vec<Chunk>> = None;
    for start in (0..rows).step_by(usize::try_from(ROW_GROUP).unwrap_or(1)) {
        let found = feed.rows(start, rows.min(start + ROW_GROUP))?;
        // One row group goes to the file while the next is encoded.
        let written = || {
            ready
                .take()
                .map_or(Ok(()), |columns| group(&mut writer, columns))
        };
        let (written, encoded) = rayon::join(written, || encode(&found, &added));
        written?;
        ready = Some(encoded?);
    }
    if let Some(columns) = ready {
        group(&mut writer, columns)?;
    }
    finish(writer, rows)
}

/// The columns of scores as Parquet declares them.
fn fields(added: &[Added<'_>]) -> Result<Vec<TypePtr>> {
    added
        .iter()
        .map(|one| {
            let field = Type::primitive_type_builder(one.name, one.physical);
            Ok(Arc::new(
                field.with_repetition(Repetition::OPTIONAL).build()?,
            ))
        })
        .collect()
}

/// What `source` says of itself, its Arrow schema of the columns that are written.
fn key_values(
    source: &ParquetMetaData,
    added: &[Added<'_>],
    stays: impl Fn(&str) -> bool,
) -> Result<Vec<KeyValue>> {
    let file = source.file_metadata();
    let mut kept = file.key_value_metadata().cloned().unwrap_or_default();
    // What an output says of itself is not said of what is made of it.
    kept.retain(|kv| kv.key != MANIFEST_KEY);
    let schema = kept
        .iter_mut()
        .find(|kv| kv.key == kept_schema::KEY)
        .and_then(|kv| kv.value.as_mut());
    if let Some(value) = schema {
        let schema = kept_schema::decode(value)?;
        let added = added.iter().map(|one| {
            let found = match one.physical {
                Physical::INT64 => DataType::Int64,
                _ => DataType::Float64,
            };
            Arc::new(Field::new(one.name, found, true))
        });
        let before = schema.fields().iter().filter(|field| stays(field.name()));
        let fields: Vec<_> = before.cloned().chain(added).collect();
        let mut said = schema.metadata().clone();
        said.remove(MANIFEST_KEY);
        let schema = Schema::new_with_metadata(fields, said);
        *value = kept_schema::encode(&schema);
    }
    Ok(kept)
}

type Output = SerializedFileWriter<Hashed>;

fn properties(key_values: Vec<KeyValue>) -> WriterPropertiesPtr {
    let key_values = (!key_values.is_empty()).then_some(key_values);
    Arc::new(
        WriterProperties::builder()
            .set_offset_index_disabled(true)
            .set_key_value_metadata(key_values)
            .build(),
    )
}

fn create(
    target: &Path,
    root: &str,
    fields: Vec<TypePtr>,
    key_values: Vec<KeyValue>,
) -> Result<Output> {
    let schema = Type::group_type_builder(root).with_fields(fields).build()?;
    let hashed = Hashed::create(target)?;
    SerializedFileWriter::new(hashed, Arc::new(schema), properties(key_values))
}

fn finish(mut writer: Output, rows: u64) -> Result<WriteSummary> {
    writer.finish()?;
    let (bytes, digest) = writer.inner_mut().finish()?;
    Ok(WriteSummary {
        rows,
        bytes,
        digest,
    })
}

/// A column chunk as it is copied, if it is here.
fn whole(column: &ColumnChunkMetaData, place: &footer::Column) -> Result<ColumnChunkMetaData> {
    let name = column.column_path().string();
    if !place.is_here() {
        let problem = format!("its column {name:?} is encrypted or in another file");
        return Err(refusal(problem));
    }
    // Some writers say 0 of a dictionary that is not there.
    if column
        .dictionary_page_offset()
        .is_some_and(|start| start <= 0)
    {
        let builder = column.clone().into_builder();
        return builder.set_dictionary_page_offset(None).build();
    }
    Ok(column.clone())
}

/// Copies one column chunk as it is.
fn splice(
    out: &mut SerializedRowGroupWriter<'_, Hashed>,
    source: &impl ChunkReader,
    column: ColumnChunkMetaData,
    rows: i64,
) -> Result<()> {
    let close = ColumnCloseResult {
        bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
        rows_written: u64::try_from(rows).unwrap_or(0),
        metadata: column,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    out.append_column(source, close)
}

/// Adds encoded columns to a row group.
fn add(out: &mut SerializedRowGroupWriter<'_, Hashed>, columns: Vec<Chunk>) -> Result<()> {
    for (bytes, column) in columns {
        let rows = column.num_values();
        splice(out, &bytes, column, rows)?;
    }
    Ok(())
}

/// Writes a row group of encoded columns.
fn group(writer: &mut Output, columns: Vec<Chunk>) -> Result<()> {
    let mut out = writer.next_row_group()?;
    add(&mut out, columns)?;
    out.close()?;
    Ok(())
}

/// The columns of some rows, encoded side by side.
fn encode(rows: &[ScoreRows<'_>], added: &[Added<'_>]) -> Result<Vec<Chunk>> {
    let columns = added.par_iter().zip(fields(added)?);
    let encoded = columns.map(|(one, field)| {
        let schema = Type::group_type_builder("schema").with_fields(vec![field]);
        let described = SchemaDescriptor::new(Arc::new(schema.build()?)).column(0);
        column_chunk::encode(rows[one.of].cells(one.column), &described)
    });
    encoded.collect()
}

fn refusal(message: String) -> ParquetError {
    ParquetError::General(message)
}
