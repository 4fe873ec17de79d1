//! The filters of `GET /v2/orders`.

use super::fields::FieldError;
use super::params::Params;
use crate::application::query::{OrderFilter, OrderScope};
use contracts::{OrderId, Side, Symbol};

/// Orders of an answer, unless told otherwise.
const LIMIT_DEFAULT: i64 = 50;

/// Most orders of an answer.
pub const LIMIT_MAX: i64 = 500;

/// Most symbols of a filter.
const SYMBOLS_MAX: usize = 200;

/// What the query asks for; none when nothing can match.
///
/// # Errors
/// [`FieldError`] naming the parameter that breaks a rule.
pub fn filter(params: &Params) -> Result<Option<OrderFilter>, FieldError> {
    let scope = match params.one("status")? {
        None | Some("open") => OrderScope::Open,
        Some("closed") => OrderScope::Closed,
        Some("all") => OrderScope::All,
        Some(_) => return Err(FieldError::new("status", "must be open, closed or all")),
    };
    let ascending = match params.one("direction")? {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(FieldError::new("direction", "must be asc or desc")),
    };
    let side = match params.one("side")? {
        None => None,
        Some(word) => Some(word.parse::<Side>().map_err(|_| FieldError::new("side", "must be buy or sell"))?),
    };
    let filter = OrderFilter {
        scope,
        limit: params.integer("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
        after: params.time("after")?,
        until: params.time("until")?,
        before_order_id: order_id(params, "before_order_id")?,
        after_order_id: order_id(params, "after_order_id")?,
        ascending,
        symbols: symbols(params)?,
        side,
    };
    check_exclusive(&filter)?;
    let equities = params.list("asset_class").all(|class| class == "us_equity" || class == "all");
    Ok((equities && !(params.list("symbols").next().is_some() && filter.symbols.is_empty())).then_some(filter))
}

fn order_id(params: &Params, name: &str) -> Result<Option<OrderId>, FieldError> {
    let Some(text) = params.one(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| FieldError::new(name, "must be a UUID"))
}

/// A text that no ticker can look like matches nothing; it is not an error to ask.
fn symbols(params: &Params) -> Result<Vec<Symbol>, FieldError> {
    let symbols: Vec<_> = params.list("symbols").filter_map(|text| Symbol::new(text).ok()).collect();
    if symbols.len() > SYMBOLS_MAX {
        return Err(FieldError::new("symbols", format!("must be at most {SYMBOLS_MAX}")));
    }
    Ok(symbols)
}

fn check_exclusive(filter: &OrderFilter) -> Result<(), FieldError> {
    if filter.before_order_id.is_some() && filter.after_order_id.is_some() {
        return Err(FieldError::new("before_order_id", "and after_order_id exclude each other"));
    }
    let by_id = filter.before_order_id.is_some() || filter.after_order_id.is_some();
    if by_id && (filter.after.is_some() || filter.until.is_some()) {
        return Err(FieldError::new("after", "and until cannot be mixed with before_order_id and after_order_id"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Option<OrderFilter>, String> {
        let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        filter(&Params::new(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_asked_for_means_the_newest_fifty_open_orders() {
        let filter = parsed(&[("nested", "True"), ("something", "new")]).unwrap().unwrap();
        assert_eq!((filter.scope, filter.limit, filter.ascending), (OrderScope::Open, 50, false));
        assert!(filter.symbols.is_empty() && filter.side.is_none() && filter.after.is_none());
    }

    #[test]
    fn every_filter_is_read() {
        let filter = parsed(&[
            ("status", "all"),
            ("limit", "500"),
            ("direction", "asc"),
            ("side", "sell"),
            ("symbols", "AAPL,BRK.B"),
            ("after", "2026-07-01T00:00:00+00:00"),
            ("until", "2026-07-02"),
        ]);
        let filter = filter.unwrap().unwrap();
        assert_eq!((filter.limit, filter.ascending, filter.side), (500, true, Some(Side::Sell)));
        assert_eq!(filter.symbols.len(), 2);
        assert_eq!(filter.after, Some(datetime!(2026-07-01 00:00 UTC)));
        assert_eq!(filter.until, Some(datetime!(2026-07-02 00:00 UTC)));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let id = "61e69015-8549-4bfd-b9c3-01e75843f47d";
        let cases: [&[(&str, &str)]; 11] = [
            &[("limit", "0")],
            &[("limit", "501")],
            &[("limit", "-1")],
            &[("limit", "ten")],
            &[("status", "done")],
            &[("direction", "up")],
            &[("side", "both")],
            &[("after", "yesterday")],
            &[("before_order_id", "1")],
            &[("before_order_id", id), ("after_order_id", id)],
            &[("after", "2026-07-01"), ("after_order_id", id)],
        ];
        for case in cases {
            let error = parsed(case).unwrap_err();
            assert!(error.starts_with(case[0].0), "{error}");
        }
    }

    #[test]
    fn what_cannot_match_is_empty_and_not_everything() {
        assert_eq!(parsed(&[("symbols", "aapl")]).unwrap(), None);
        assert_eq!(parsed(&[("asset_class", "crypto")]).unwrap(), None);
        assert!(parsed(&[("asset_class", "us_equity"), ("symbols", "")]).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(
            name in prop::sample::select(vec!["status", "limit", "after", "until", "symbols", "before_order_id"]),
            value in ".{0,40}",
        ) {
            let _ = parsed(&[(name, &value)]);
        }
    }
}
