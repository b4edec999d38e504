//! One column of scores as a Parquet column chunk.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::cells::{Cells, Content, Values};
use super::hybrid;

/// Bytes of a page that tell whether it shrinks.
const SAMPLE: usize = 1 << 14;
/// Rows per page.
const PAGE: usize = 1 << 16;
/// A chunk in memory, and where its pages are in it.
pub(super) type Chunk = (Bytes, ColumnChunkMetaData);

/// Encodes a column.
pub(super) fn encode(cells: Cells, column: &ColumnDescPtr) -> Result<Chunk> {
    let Content { levels, values } = Content::of(cells);
    let rows = levels.as_ref().map_or(values.len(), Vec::len);
    let pages = pages(rows, levels.as_deref(), &values);
    let mut packer = Packer::of(pages.first().map_or(&[], |page| &page.bytes))?;
    let mut sink = TrackedWrite::new(Vec::new());
    let mut writer = SerializedPageWriter::new(&mut sink);
    let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
    let (mut begin, mut bytes, mut dictionary) = (0, 0, None);
    if let Values::Indexed { entries, .. } = &values {
        let spec = writer.write_page(packer.dictionary(entries)?)?;
        begin = spec.compressed_size;
        bytes += spec.uncompressed_size;
        dictionary = Some(0);
        encodings.push(Encoding::RLE_DICTIONARY);
    }
    for page in pages {
        bytes += writer.write_page(packer.data(page)?)?.uncompressed_size;
    }
    writer.close()?;
    let file = sink.into_inner()?;
    let nulls = (rows - values.len()) as u64;
    let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_compression(packer.compression())
        .set_encodings(encodings)
        .set_num_values(signed(rows))
        .set_total_compressed_size(signed(file.len()))
        .set_total_uncompressed_size(signed(bytes))
        .set_dictionary_page_offset(dictionary)
        .set_data_page_offset(signed(begin))
        .set_statistics(statistics(column.physical_type(), values.distinct(), nulls))
        .build()?;
    Ok((Bytes::from(file), metadata))
}

/// A data page before it is compressed.
struct Raw {
    rows: usize,
    encoding: Encoding,
    bytes: Vec<u8>,
}

fn pages(rows: usize, levels: Option<&[u32]>, values: &Values) -> Vec<Raw> {
    let mut begin = 0;
    let page = |first: usize| {
        let rows = PAGE.min(rows - first);
        let mut bytes = vec![0; 4];
        let end = if let Some(levels) = levels {
            let levels = &levels[first..first + rows];
            hybrid::encode(levels, 1, &mut bytes);
            begin + levels.iter().sum::<u32>() as usize
        } else {
            hybrid::repeat(1, rows, 1, &mut bytes);
            begin + rows
        };
        let length = u32::try_from(bytes.len() - 4).expect("a page is small");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let encoding = match values {
            Values::Plain(values) => {
                bytes.extend(plain(&values[begin..end]).as_flattened());
                Encoding::PLAIN
            }
            Values::Indexed { entries, indices } => {
                // Not 0 for a single entry: not every reader knows what that would be.
                let last = entries.len() as u64 - 1;
                let width = (u64::BITS - last.leading_zeros()).max(1);
                bytes.push(u8::try_from(width).expect("few bits"));
                hybrid::encode(&indices[begin..end], width as usize, &mut bytes);
                Encoding::RLE_DICTIONARY
            }
        };
        begin = end;
        Raw {
            rows,
            encoding,
            bytes,
        }
    };
    (0..rows).step_by(PAGE).map(page).collect()
}

fn plain(values: &[u64]) -> Vec<[u8; 8]> {
    values.iter().map(|value| value.to_le_bytes()).collect()
}

/// Compresses the pages of a chunk, or leaves all of them as they are.
struct Packer(Option<zstd::bulk::Compressor<'static>>);

impl Packer {
    /// Packed bits of scattered groups hardly shrink: then readers are spared the work.
    fn of(page: &[u8]) -> Result<Self> {
        let sample = &page[..page.len().min(SAMPLE)];
        let mut zstd = zstd::bulk::Compressor::new(ZstdLevel::default().compression_level())?;
        let shrinks = zstd.compress(sample)?.len() < sample.len() / 16 * 15;
        Ok(Self(shrinks.then_some(zstd)))
    }

    fn compression(&self) -> Compression {
        match self.0 {
            Some(_) => Compression::ZSTD(ZstdLevel::default()),
            None => Compression::UNCOMPRESSED,
        }
    }

    fn packed(&mut self, bytes: Vec<u8>) -> Result<Bytes> {
        Ok(Bytes::from(match &mut self.0 {
            Some(zstd) => zstd.compress(&bytes)?,
            None => bytes,
        }))
    }

    fn dictionary(&mut self, entries: &[u64]) -> Result<CompressedPage> {
        let page = Page::DictionaryPage {
            buf: self.packed(plain(entries).as_flattened().to_vec())?,
            num_values: u32::try_from(entries.len()).expect("few entries"),
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(page, 8 * entries.len()))
    }

    fn data(&mut self, raw: Raw) -> Result<CompressedPage> {
        let bytes = raw.bytes.len();
        let page = Page::DataPage {
            buf: self.packed(raw.bytes)?,
            num_values: u32::try_from(raw.rows).expect("a page is small"),
            encoding: raw.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        Ok(CompressedPage::new(page, bytes))
    }
}

/// The least and the highest value; NaN has no place among them.
fn statistics(physical: Physical, values: &[u64], nulls: u64) -> Statistics {
    if physical == Physical::INT64 {
        let numbers = || values.iter().map(|bits| bits.cast_signed());
        return Statistics::int64(numbers().min(), numbers().max(), None, Some(nulls), false);
    }
    let numbers = || {
        let all = values.iter().map(|&bits| f64::from_bits(bits));
        all.filter(|number| !number.is_nan())
    };
    // Readers may take the zeros for one another, so that both lie within the bounds.
    let least = numbers()
        .reduce(f64::min)
        .map(|n| if n == 0.0 { -0.0 } else { n });
    let highest = numbers()
        .reduce(f64::max)
        .map(|n| if n == 0.0 { 0.0 } else { n });
    Statistics::double(least, highest, None, Some(nulls), false)
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).expect("a chunk fits the memory")
}
