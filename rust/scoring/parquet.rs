//! Scores written as Parquet: beside the columns of a file whose bytes are copied, or alone.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use parquet::basic::{Compression, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::ChunkReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use rayon::prelude::*;

use super::Scored;
use super::disk::{Chunks, Hashed};

/// Rows per row group of a file of scores alone.
const ROW_GROUP: u64 = 1 << 18;

type CellOf = fn(&Scored) -> Cell;

/// The columns that are written, with the numbers that each row has in them.
const COLUMNS: [(&str, CellOf); 6] = [
    ("rank", |row| Cell::Float(row.rank())),
    ("percentile", |row| Cell::Float(row.percentile())),
    ("advantage", |row| Cell::Float(Some(row.advantage))),
    ("group_size", |row| Cell::Int(i64::from(row.size))),
    ("group_mean", |row| Cell::Float(number(row.mean))),
    ("group_std", |row| Cell::Float(number(row.std))),
];

enum Cell {
    Float(Option<f64>),
    Int(i64),
}

fn number(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

/// What was written: rows, bytes and the XXH3 digest of the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Rows of the file.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3 with 128 bits.
    pub digest: u128,
}

/// Gives what the rows from the first to before the second number are told.
pub type Next<'a> = dyn FnMut(u64, u64) -> Result<Vec<Scored>> + 'a;

/// Writes `target`: the columns of `source`, byte for byte, and the scores.
///
/// # Errors
/// If `source` is no Parquet file or not of as many rows as `rows`, or a disk fails.
pub fn append(source: &Path, target: &Path, rows: u64, next: &mut Next<'_>) -> Result<Written> {
    let source = Chunks(File::open(source)?);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&source.0)?;
    let file = metadata.file_metadata();
    if u64::try_from(file.num_rows()).ok() != Some(rows) {
        let found = file.num_rows();
        return Err(told(format!(
            "it has {found} rows where it had {rows} before"
        )));
    }
    let root = file.schema_descr().root_schema();
    let fields = root.get_fields().iter().cloned().chain(fields()?);
    let mut writer = create(
        target,
        root.name(),
        fields.collect(),
        key_values(&metadata)?,
    )?;
    let mut start = 0;
    for group in metadata.row_groups() {
        let mut out = writer.next_row_group()?;
        for column in group.columns() {
            splice(&mut out, &source, column.clone(), group.num_rows())?;
        }
        let stop = start + u64::try_from(group.num_rows()).unwrap_or(0);
        add(&mut out, &next(start, stop)?)?;
        out.close()?;
        start = stop;
    }
    finish(writer, rows)
}

/// Writes `target`: the scores alone, `rows` of them.
///
/// # Errors
/// If a disk fails.
pub fn alone(target: &Path, rows: u64, next: &mut Next<'_>) -> Result<Written> {
    let mut writer = create(target, "schema", fields()?, Vec::new())?;
    for start in (0..rows).step_by(usize::try_from(ROW_GROUP).unwrap_or(1)) {
        let mut out = writer.next_row_group()?;
        add(&mut out, &next(start, rows.min(start + ROW_GROUP))?)?;
        out.close()?;
    }
    finish(writer, rows)
}

/// The columns of scores as Parquet declares them.
fn fields() -> Result<Vec<TypePtr>> {
    COLUMNS
        .iter()
        .map(|(name, cell)| {
            let physical = match cell(&Scored::default()) {
                Cell::Float(_) => Physical::DOUBLE,
                Cell::Int(_) => Physical::INT64,
            };
            let field = Type::primitive_type_builder(name, physical);
            Ok(Arc::new(
                field.with_repetition(Repetition::OPTIONAL).build()?,
            ))
        })
        .collect()
}

/// What `source` says of itself, its Arrow schema with the columns of scores.
fn key_values(source: &ParquetMetaData) -> Result<Vec<KeyValue>> {
    let file = source.file_metadata();
    let Some(given) = file.key_value_metadata() else {
        return Ok(Vec::new());
    };
    let mut kept: Vec<KeyValue> = given.clone();
    if let Some(arrow) = kept.iter_mut().find(|kv| kv.key == ARROW_SCHEMA_META_KEY) {
        let schema = parquet_to_arrow_schema(file.schema_descr(), Some(given))?;
        let added = COLUMNS.iter().map(|(name, cell)| {
            let found = match cell(&Scored::default()) {
                Cell::Float(_) => DataType::Float64,
                Cell::Int(_) => DataType::Int64,
            };
            Arc::new(Field::new(*name, found, true))
        });
        let fields: Vec<_> = schema.fields().iter().cloned().chain(added).collect();
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        arrow.value = Some(encode_arrow_schema(&schema));
    }
    Ok(kept)
}

type Output = SerializedFileWriter<Hashed>;

fn properties(key_values: Vec<KeyValue>) -> WriterPropertiesPtr {
    let key_values = (!key_values.is_empty()).then_some(key_values);
    Arc::new(
        WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
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

fn finish(mut writer: Output, rows: u64) -> Result<Written> {
    writer.finish()?;
    let (bytes, digest) = writer.inner_mut().finish()?;
    Ok(Written {
        rows,
        bytes,
        digest,
    })
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

/// Adds the scores of one row group, its columns encoded side by side.
fn add(out: &mut SerializedRowGroupWriter<'_, Hashed>, scored: &[Scored]) -> Result<()> {
    let rows = i64::try_from(scored.len()).unwrap_or(i64::MAX);
    let encoded: Vec<_> = COLUMNS
        .par_iter()
        .zip(fields()?)
        .map(|(column, field)| encode(scored, column.1, field))
        .collect::<Result<_>>()?;
    for (bytes, metadata) in encoded {
        splice(out, &bytes, metadata, rows)?;
    }
    Ok(())
}

/// Encodes one column of scores as a Parquet file of its own in memory.
fn encode(scored: &[Scored], cell: CellOf, field: TypePtr) -> Result<(Bytes, ColumnChunkMetaData)> {
    let schema = Type::group_type_builder("schema").with_fields(vec![field]);
    let mut file = Vec::new();
    let schema = Arc::new(schema.build()?);
    let mut writer = SerializedFileWriter::new(&mut file, schema, properties(Vec::new()))?;
    let mut group = writer.next_row_group()?;
    let mut column = group
        .next_column()?
        .ok_or_else(|| told("no column".into()))?;
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    let mut levels = Vec::with_capacity(scored.len());
    for row in scored {
        let (float, int) = match cell(row) {
            Cell::Float(value) => (value, None),
            Cell::Int(value) => (None, Some(value)),
        };
        levels.push(i16::from(float.is_some() || int.is_some()));
        floats.extend(float);
        ints.extend(int);
    }
    let levels = Some(levels.as_slice());
    match cell(&Scored::default()) {
        Cell::Float(_) => column
            .typed::<DoubleType>()
            .write_batch(&floats, levels, None)?,
        Cell::Int(_) => column
            .typed::<Int64Type>()
            .write_batch(&ints, levels, None)?,
    };
    column.close()?;
    let metadata = group.close()?.column(0).clone();
    writer.close()?;
    Ok((Bytes::from(file), metadata))
}

fn told(message: String) -> ParquetError {
    ParquetError::General(message)
}
