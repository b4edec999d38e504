//! One column of scores as a Parquet column chunk: a dictionary where values come again.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parquet::basic::{Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::hybrid;

/// Rows per page.
const PAGE: usize = 1 << 16;
/// More values than that, and a dictionary would hardly be smaller than the values.
const ENTRIES: usize = 1 << hybrid::WIDEST;

/// The cells of one column: the bits of what is there, and for every row 1 if it is.
pub(super) struct Cells {
    values: Vec<u64>,
    levels: Vec<u32>,
}

impl Cells {
    /// The cells of some rows; `None` is null.
    pub(super) fn of<T>(rows: &[T], cell: impl Fn(&T) -> Option<u64>) -> Self {
        let mut values = Vec::with_capacity(rows.len());
        let mut levels = Vec::with_capacity(rows.len());
        for row in rows {
            let value = cell(row);
            levels.push(u32::from(value.is_some()));
            values.extend(value);
        }
        Self { values, levels }
    }
}

/// A chunk in memory, and where its pages are in it.
pub(super) type Chunk = (Bytes, ColumnChunkMetaData);

/// Encodes a column.
pub(super) fn encode(cells: &Cells, column: &ColumnDescPtr) -> Result<Chunk> {
    let indexed = Indexed::of(&cells.values);
    let pages = pages(cells, indexed.as_ref());
    let mut packer = Packer::of(pages.first().map_or(&[], |page| &page.bytes))?;
    let mut sink = TrackedWrite::new(Vec::new());
    let mut writer = SerializedPageWriter::new(&mut sink);
    let mut begin = 0;
    let mut bytes = 0;
    if let Some(indexed) = &indexed {
        let spec = writer.write_page(packer.dictionary(&indexed.entries)?)?;
        begin = spec.compressed_size;
        bytes += spec.uncompressed_size;
    }
    for page in pages {
        bytes += writer.write_page(packer.data(page)?)?.uncompressed_size;
    }
    writer.close()?;
    let file = sink.into_inner()?;
    let distinct = indexed
        .as_ref()
        .map_or(&cells.values, |found| &found.entries);
    let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
    encodings.extend(indexed.as_ref().map(|_| Encoding::RLE_DICTIONARY));
    let nulls = (cells.levels.len() - cells.values.len()) as u64;
    let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_compression(packer.compression())
        .set_encodings(encodings)
        .set_num_values(signed(cells.levels.len()))
        .set_total_compressed_size(signed(file.len()))
        .set_total_uncompressed_size(signed(bytes))
        .set_dictionary_page_offset(indexed.as_ref().map(|_| 0))
        .set_data_page_offset(signed(begin))
        .set_statistics(statistics(column.physical_type(), distinct, nulls))
        .build()?;
    Ok((Bytes::from(file), metadata))
}

/// Values as numbers of their first appearance.
struct Indexed {
    entries: Vec<u64>,
    indices: Vec<u32>,
}

impl Indexed {
    /// `None` if there are too many different values, or none.
    fn of(values: &[u64]) -> Option<Self> {
        let hasher = RandomState::default();
        let mut table: HashTable<(u64, u32)> = HashTable::new();
        let (mut entries, mut indices) = (Vec::new(), Vec::with_capacity(values.len()));
        let mut before = (*values.first()?, 0);
        for &value in values {
            if value != before.0 || entries.is_empty() {
                let hash = hasher.hash_one(value);
                let same = |known: &(u64, u32)| known.0 == value;
                before = match table.entry(hash, same, |known| hasher.hash_one(known.0)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(_) if entries.len() == ENTRIES => return None,
                    Entry::Vacant(free) => {
                        let index = u32::try_from(entries.len()).expect("few entries");
                        entries.push(value);
                        *free.insert((value, index)).get()
                    }
                };
            }
            indices.push(before.1);
        }
        Some(Self { entries, indices })
    }
}

/// A data page before it is compressed.
struct Raw {
    rows: usize,
    encoding: Encoding,
    bytes: Vec<u8>,
}

fn pages(cells: &Cells, indexed: Option<&Indexed>) -> Vec<Raw> {
    let mut begin = 0;
    let page = |levels: &[u32]| {
        let end = begin + levels.iter().sum::<u32>() as usize;
        let mut bytes = vec![0; 4];
        hybrid::encode(levels, 1, &mut bytes);
        let length = u32::try_from(bytes.len() - 4).expect("a page is small");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let encoding = match indexed {
            None => {
                bytes.extend(plain(&cells.values[begin..end]).as_flattened());
                Encoding::PLAIN
            }
            Some(Indexed { entries, indices }) => {
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
            rows: levels.len(),
            encoding,
            bytes,
        }
    };
    cells.levels.chunks(PAGE).map(page).collect()
}

fn plain(values: &[u64]) -> Vec<[u8; 8]> {
    values.iter().map(|value| value.to_le_bytes()).collect()
}

/// Compresses the pages of a chunk, or leaves all of them as they are.
struct Packer(Option<zstd::bulk::Compressor<'static>>);

impl Packer {
    /// Packed bits of scattered groups hardly shrink: then readers are spared the work.
    fn of(sample: &[u8]) -> Result<Self> {
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
