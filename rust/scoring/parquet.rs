//! Scores written as Parquet: beside the columns of a file whose bytes are copied, or alone.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
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

use super::Scored;
use super::chunk::{self, Cells, Chunk};
use super::disk::{Chunks, Hashed};

/// Rows per row group of a file of scores alone.
const ROW_GROUP: u64 = 1 << 18;

/// A column of some rows; not of one row, which would cost a call for each.
type CellsOf = fn(&[Scored]) -> Cells;

/// The columns that are written, with the numbers that each row has in them.
const COLUMNS: [(&str, Physical, CellsOf); 6] = [
    ("rank", Physical::DOUBLE, |rows| {
        Cells::of(rows, |row| row.rank().map(f64::to_bits))
    }),
    ("percentile", Physical::DOUBLE, |rows| {
        Cells::of(rows, |row| row.percentile().map(f64::to_bits))
    }),
    ("advantage", Physical::DOUBLE, |rows| {
        Cells::of(rows, |row| Some(row.advantage.to_bits()))
    }),
    ("group_size", Physical::INT64, |rows| {
        Cells::of(rows, |row| Some(u64::from(row.size)))
    }),
    ("group_mean", Physical::DOUBLE, |rows| {
        Cells::of(rows, |row| number(row.mean))
    }),
    ("group_std", Physical::DOUBLE, |rows| {
        Cells::of(rows, |row| number(row.std))
    }),
];

fn number(value: f64) -> Option<u64> {
    (!value.is_nan()).then_some(value.to_bits())
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
        .map(|&(name, physical, _)| {
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
        let added = COLUMNS.iter().map(|&(name, physical, _)| {
            let found = match physical {
                Physical::INT64 => DataType::Int64,
                _ => DataType::Float64,
            };
            Arc::new(Field::new(name, found, true))
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
        .map(|(&(_, _, cells), field)| encode(&cells(scored), field))
        .collect::<Result<_>>()?;
    for (bytes, metadata) in encoded {
        splice(out, &bytes, metadata, rows)?;
    }
    Ok(())
}

fn encode(cells: &Cells, field: TypePtr) -> Result<Chunk> {
    let schema = Type::group_type_builder("schema").with_fields(vec![field]);
    let column = SchemaDescriptor::new(Arc::new(schema.build()?)).column(0);
    chunk::encode(cells, &column)
}

fn told(message: String) -> ParquetError {
    ParquetError::General(message)
}
