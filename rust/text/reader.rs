//! The rows of a text file that was looked through, as record batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::blocks::{Block, Format};
use super::builder::{Builder, Structs};
use super::error::TextError;
use super::survey::{Opened, Survey, each_line, each_record, object};
use super::types::{Asked, Type, arrow_fields};

/// The rows of one file, from first to last.
pub struct Reader {
    survey: Arc<Survey>,
    file: usize,
    columns: Vec<(String, Type)>,
    opened: Opened,
    rows: u64,
}

impl Reader {
    /// Opens a file of a survey to read these of its columns.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn new(
        survey: Arc<Survey>,
        file: usize,
        wanted: &[String],
        asked: impl Fn(&str) -> Asked,
    ) -> Result<Self, TextError> {
        let mut columns = survey.types(asked);
        columns.retain(|(name, _)| wanted.contains(name));
        let opened = Opened::new(survey.path(file), survey.format)?;
        Ok(Self {
            survey,
            file,
            columns,
            opened,
            rows: 0,
        })
    }

    /// The next rows, none at the end.
    ///
    /// # Errors
    /// If the file can't be read or is not what it was.
    pub fn step(&mut self) -> Result<Vec<RecordBatch>, TextError> {
        let blocks = self.opened.blocks()?;
        let (columns, header) = (&self.columns, &self.opened.header);
        let format = self.survey.format;
        let read = |block: &Block| match format {
            Format::Json => lines(block, columns),
            Format::Csv(delimiter) => records(block, delimiter, header, columns),
        };
        let found: Vec<_> = blocks.par_iter().map(read).collect();
        let batches = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.rows += batches
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum::<u64>();
        let (found, expected) = (self.rows, self.survey.rows(self.file));
        if found > expected || blocks.is_empty() && found < expected {
            return Err(TextError::Rows { found, expected });
        }
        Ok(batches)
    }
}

fn lines(block: &Block, columns: &[(String, Type)]) -> Result<RecordBatch, TextError> {
    let mut rows = Structs::new(columns);
    each_line(block, |row, _| {
        let mut cursor = object(row)?;
        rows.push(&mut cursor)?;
        cursor.end()
    })?;
    Ok(rows.finish().into())
}

fn records(
    block: &Block,
    delimiter: u8,
    header: &[String],
    columns: &[(String, Type)],
) -> Result<RecordBatch, TextError> {
    let places: Vec<_> = columns
        .iter()
        .map(|(name, _)| header.iter().position(|known| known == name))
        .collect();
    let mut built: Vec<_> = columns.iter().map(|(_, kind)| Builder::new(kind)).collect();
    each_record(block, delimiter, header.len(), |fields, _| {
        for (column, place) in built.iter_mut().zip(&places) {
            match place {
                Some(place) => column.push_field(&fields[*place])?,
                None => column.null(),
            }
        }
        Ok(())
    })?;
    let arrays = built.into_iter().map(Builder::finish).collect();
    let schema = arrow_schema::Schema::new(arrow_fields(columns));
    Ok(RecordBatch::try_new(Arc::new(schema), arrays)
        .expect("every column has a value for every row"))
}
