//! One column of scores as a Parquet column chunk.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::cells::{Cells, Content, Values};
use super::rle_hybrid;
use super::thrift::Writer;

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
    let encodings = match &values {
        Values::Plain(_) => vec![Encoding::PLAIN, Encoding::RLE],
        Values::Indexed { .. } => {
            vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY]
        }
    };
    let (mut file, mut bytes, mut dictionary) = (Vec::new(), 0, None);
    if let Values::Indexed { entries, .. } = &values {
        let plain = plain(entries).as_flattened().to_vec();
        bytes += packer.page(&mut file, plain, Kind::Dictionary(entries.len()))?;
        dictionary = Some(0);
    }
    let begin = file.len();
    for Raw {
        rows,
        encoding,
        bytes: raw,
    } in pages
    {
        bytes += packer.page(&mut file, raw, Kind::Data(rows, encoding))?;
    }
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
            rle_hybrid::encode(levels, 1, &mut bytes);
            begin + levels.iter().sum::<u32>() as usize
        } else {
            rle_hybrid::repeat(1, rows, 1, &mut bytes);
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
                rle_hybrid::encode(&indices[begin..end], width as usize, &mut bytes);
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

    fn packed(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(match &mut self.0 {
            Some(zstd) => zstd.compress(&bytes)?,
            None => bytes,
        })
    }

    /// Adds a page and its header to `file`; returns the bytes that both take unpacked.
    fn page(&mut self, file: &mut Vec<u8>, bytes: Vec<u8>, kind: Kind) -> Result<usize> {
        let unpacked = bytes.len();
        let packed = self.packed(bytes)?;
        let mut header = Writer::default();
        header.integer(1, kind.number());
        header.integer(1, count(unpacked));
        header.integer(1, count(packed.len()));
        header.integer(1, crc32fast::hash(&packed).cast_signed());
        match kind {
            Kind::Data(rows, encoding) => {
                let [encoding, levels] = [encoding, Encoding::RLE].map(code);
                header.structure(1, &[count(rows), encoding, levels, levels]);
            }
            Kind::Dictionary(entries) => {
                header.structure(3, &[count(entries), code(Encoding::PLAIN)]);
            }
        }
        let header = header.end();
        file.extend_from_slice(&header);
        file.extend_from_slice(&packed);
        Ok(header.len() + unpacked)
    }
}

/// What a page has: rows in an encoding, or the entries of a dictionary.
#[derive(Clone, Copy)]
enum Kind {
    Data(usize, Encoding),
    Dictionary(usize),
}

impl Kind {
    /// What Parquet calls it.
    fn number(self) -> i32 {
        match self {
            Self::Data(..) => 0,
            Self::Dictionary(_) => 2,
        }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).expect("a page is small")
}

/// The number that Parquet gives to one of the encodings that are written here.
fn code(encoding: Encoding) -> i32 {
    match encoding {
        Encoding::RLE => 3,
        Encoding::RLE_DICTIONARY => 8,
        _ => 0,
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
