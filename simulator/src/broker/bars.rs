//! Recorded price bars, from a CSV file.

use std::path::{Path, PathBuf};

use rust_decimal::Decimal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::universe::{self, INSTRUMENTS};

/// Largest file.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Steps that a bar takes: its open, its two extremes, its close.
const STEPS: u64 = 4;
/// The columns, in any order; others are ignored.
const COLUMNS: [&str; 6] = ["symbol", "timestamp", "open", "high", "low", "close"];

/// Bars of some instruments, each in the order of its time.
#[derive(Debug, Clone, Default)]
pub struct Bars(Vec<Vec<[Decimal; 4]>>);

/// Why a file of bars is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BarsError {
    /// It cannot be read.
    #[error("cannot read the bars of {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than a broker reads.
    #[error("{path} is larger than {BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A column is missing.
    #[error("the bars have no column {0}")]
    Column(&'static str),
    /// A line makes no sense.
    #[error("line {line} of the bars: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl Bars {
    /// Reads a file with the columns symbol, timestamp, open, high, low and close.
    ///
    /// # Errors
    /// [`BarsError`] names the line that makes no sense.
    pub fn read(path: &Path) -> Result<Self, BarsError> {
        let read = |source| BarsError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > BYTES_MAX {
            return Err(BarsError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// The same from the text itself.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str) -> Result<Self, BarsError> {
        let mut lines = text.lines().enumerate();
        let header: Vec<&str> =
            lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
        let mut places = [0; COLUMNS.len()];
        for (place, name) in places.iter_mut().zip(COLUMNS) {
            *place = header.iter().position(|column| *column == name).ok_or(BarsError::Column(name))?;
        }
        let mut dated: Vec<Vec<(OffsetDateTime, [Decimal; 4])>> = INSTRUMENTS.iter().map(|_| Vec::new()).collect();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let (instrument, at, bar) = bar(line, places).map_err(|what| BarsError::Line { line: number + 1, what })?;
            if let Some(bars) = dated.get_mut(instrument) {
                bars.push((at, bar));
            }
        }
        for bars in &mut dated {
            bars.sort_by_key(|(at, _)| *at);
        }
        Ok(Self(dated.into_iter().map(|bars| bars.into_iter().map(|(_, bar)| bar).collect()).collect()))
    }

    /// The price of an instrument at a step; none where its bars have ended or there are none.
    pub(super) fn price(&self, instrument: usize, step: u64) -> Option<Decimal> {
        let [open, high, low, close] = *self.0.get(instrument)?.get(usize::try_from(step / STEPS).ok()?)?;
        let (first, second) = if close >= open { (low, high) } else { (high, low) };
        [open, first, second, close].get(usize::try_from(step % STEPS).ok()?).copied()
    }
}

fn bar(line: &str, places: [usize; COLUMNS.len()]) -> Result<(usize, OffsetDateTime, [Decimal; 4]), String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let field = |column: usize| {
        let place = places.get(column).copied().unwrap_or(usize::MAX);
        fields.get(place).copied().ok_or_else(|| "it has too few fields".to_owned())
    };
    let symbol = field(0)?;
    let (instrument, _) = universe::find(symbol).ok_or_else(|| format!("{symbol} is not traded here"))?;
    let at = OffsetDateTime::parse(field(1)?, &Rfc3339).map_err(|error| format!("timestamp: {error}"))?;
    let mut bar = [Decimal::ZERO; 4];
    for (number, price) in bar.iter_mut().enumerate() {
        let text = field(number + 2)?;
        let parsed: Decimal = text.parse().map_err(|error| format!("{text}: {error}"))?;
        if parsed <= Decimal::ZERO {
            return Err(format!("{text} is no price"));
        }
        *price = parsed.round_dp(if parsed >= Decimal::ONE { 2 } else { 4 });
    }
    let [open, high, low, close] = bar;
    if low > open.min(close) || high < open.max(close) {
        return Err("its extremes are inside of its open and close".to_owned());
    }
    Ok((instrument, at, bar))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let header = "timestamp,symbol,open,high,low,close";
        for (line, told) in [
            ("2026-07-01T13:30:00Z,NONE,1,1,1,1", "NONE is not traded here"),
            ("yesterday,KO,1,1,1,1", "timestamp"),
            ("2026-07-01T13:30:00Z,KO,1,1,x,1", "x"),
            ("2026-07-01T13:30:00Z,KO,1,1,1", "too few"),
            ("2026-07-01T13:30:00Z,KO,1,2,0,1", "0 is no price"),
            ("2026-07-01T13:30:00Z,KO,1,1,1,2", "extremes"),
        ] {
            let error = Bars::parse(&format!("{header}\n\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains(told), "{error}");
        }
        assert!(matches!(Bars::parse("symbol,open"), Err(BarsError::Column("timestamp"))));
    }
}
