//! The body of a new order: what it asks for, or why it cannot be taken, field by field.
//!
//! Fields that nobody knows are skipped, since client libraries send many. Features that exist in
//! the dialect and not here are refused by name: leaving out a stop price that a customer relies on
//! would be worse than any error.

use super::fields::{FieldError, Fields, JsonError};
use contracts::decimal::DecimalError;
use contracts::{
    ClientOrderId, IdError, MoneyError, OrderTerms, OrderType, Price, Quantity, Side, Symbol, TermsError, TimeInForce,
};
use std::borrow::Cow;
use thiserror::Error;

/// A new order as the customer gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBody {
    /// What is asked for.
    pub terms: OrderTerms,
    /// The client's name for it, if it gave one.
    pub client_order_id: Option<ClientOrderId>,
}

/// Why a body is no order.
#[derive(Debug, Error)]
pub enum OrderBodyError {
    /// It cannot be read.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Fields of the dialect whose presence changes what the order means, and that are not served.
const UNSUPPORTED: [&str; 9] = [
    "notional",
    "stop_price",
    "trail_price",
    "trail_percent",
    "take_profit",
    "stop_loss",
    "legs",
    "advanced_instructions",
    "ratio_qty",
];

/// Reads a body.
///
/// # Errors
/// [`OrderBodyError`] naming the field that breaks a rule.
pub fn parse(body: &[u8]) -> Result<OrderBody, OrderBodyError> {
    let fields = Fields::read(body)?;
    fields.require_unique()?;
    refuse_unsupported(&fields)?;
    Ok(OrderBody { client_order_id: client_order_id(&fields)?, terms: terms(&fields)? })
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), FieldError> {
    for name in UNSUPPORTED {
        if fields.raw(name).is_some() {
            return Err(FieldError::new(name, "is not supported: leave it out"));
        }
    }
    if fields.flag("extended_hours")? == Some(true) {
        return Err(FieldError::new("extended_hours", "is not supported: leave it out or false"));
    }
    match fields.text("order_class")?.as_deref() {
        None | Some("" | "simple") => {}
        Some(_) => return Err(FieldError::new("order_class", "must be simple")),
    }
    match fields.text("currency")?.as_deref() {
        None | Some("USD") => Ok(()),
        Some(_) => Err(FieldError::new("currency", "must be USD")),
    }
}

fn terms(fields: &Fields<'_>) -> Result<OrderTerms, FieldError> {
    let symbol = Symbol::new(fields.required_text("symbol")?).map_err(|_| FieldError::new("symbol", SYMBOL_PROBLEM))?;
    let side: Side = word(fields, "side", "must be buy or sell")?;
    let order_type: OrderType = word(fields, "type", "must be market or limit")?;
    let time_in_force: TimeInForce = word(fields, "time_in_force", "must be day or gtc")?;
    check_twin(fields, order_type)?;
    check_intent(fields, side)?;
    let quantity = fields.number("qty")?.ok_or_else(|| FieldError::new("qty", "is required"))?;
    let quantity = Quantity::parse(&quantity).map_err(|error| FieldError::new("qty", error))?;
    let limit_price = fields.number("limit_price")?.map(limit_price).transpose()?;
    OrderTerms::new(symbol, side, order_type, time_in_force, quantity, limit_price).map_err(contradiction)
}

const SYMBOL_PROBLEM: &str = "must be 1 to 16 characters of A-Z, 0-9, '.', '-', '/'";

fn word<T: std::str::FromStr>(fields: &Fields<'_>, name: &str, problem: &str) -> Result<T, FieldError> {
    fields.required_text(name)?.parse().map_err(|_| FieldError::new(name, problem))
}

/// `order_type` is the deprecated twin of `type`.
fn check_twin(fields: &Fields<'_>, order_type: OrderType) -> Result<(), FieldError> {
    match fields.text("order_type")? {
        Some(twin) if twin != order_type.as_str() => Err(FieldError::new("order_type", "contradicts type")),
        _ => Ok(()),
    }
}

/// Accounts are cash accounts: a buy opens, a sell closes.
fn check_intent(fields: &Fields<'_>, side: Side) -> Result<(), FieldError> {
    let fitting = match side {
        Side::Buy => "buy_to_open",
        Side::Sell => "sell_to_close",
    };
    match fields.text("position_intent")? {
        Some(intent) if intent != fitting => {
            Err(FieldError::new("position_intent", format!("must be {fitting} for a {} order", side.as_str())))
        }
        _ => Ok(()),
    }
}

fn limit_price(text: Cow<'_, str>) -> Result<Price, FieldError> {
    Price::parse(&text).map_err(|error| match error {
        MoneyError::Decimal(DecimalError::TooPrecise { .. }) => sub_penny(),
        other => FieldError::new("limit_price", other),
    })
}

fn sub_penny() -> FieldError {
    FieldError::business("limit_price", "is sub-penny: at most 2 decimals from 1.00 up, 4 below")
}

fn contradiction(error: TermsError) -> FieldError {
    match error {
        TermsError::LimitPriceMissing => FieldError::new("limit_price", "is required for a limit order"),
        TermsError::LimitPriceOnMarket => FieldError::new("limit_price", "must be left out of a market order"),
        TermsError::SubPenny => sub_penny(),
        TermsError::UnknownWord { kind } => FieldError::new(kind, "is not known"),
    }
}

fn client_order_id(fields: &Fields<'_>) -> Result<Option<ClientOrderId>, FieldError> {
    const NAME: &str = "client_order_id";
    let Some(text) = fields.text(NAME)? else { return Ok(None) };
    ClientOrderId::new(text).map(Some).map_err(|error| match error {
        IdError::Empty { .. } => FieldError::new(NAME, "must not be empty: leave it out to have one made"),
        IdError::TooLong { max, .. } => FieldError::new(NAME, format!("must have at most {max} characters")),
        IdError::BadCharacter { .. } | IdError::NotAUuid { .. } => {
            FieldError::new(NAME, "must be printable ASCII without control characters")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({"symbol": "AAPL", "qty": "2", "side": "buy", "type": "limit", "limit_price": "150.10",
               "time_in_force": "day"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = base();
        body[name] = value;
        body
    }

    fn parsed(body: &Value) -> Result<OrderBody, String> {
        parse(body.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_number_means_the_same_as_text_and_as_literal() {
        let as_text = parsed(&base()).unwrap();
        for literal in ["2", "2.0", "2.000", "2e0", "20E-1", "\"2.00\""] {
            let body = base().to_string().replace("\"2\"", literal);
            assert_eq!(parse(body.as_bytes()).unwrap().terms.hash(), as_text.terms.hash(), "{literal}");
        }
    }

    #[test]
    fn a_fraction_is_read_exactly() {
        let body = base().to_string().replace("\"2\"", "0.123456789");
        assert_eq!(parse(body.as_bytes()).unwrap().terms.quantity().to_string(), "0.123456789");
    }

    #[test]
    fn explicit_nulls_and_unknown_fields_mean_nothing() {
        let mut body = base();
        for name in [
            "notional",
            "stop_price",
            "trail_price",
            "trail_percent",
            "take_profit",
            "stop_loss",
            "legs",
            "order_class",
        ] {
            body[name] = Value::Null;
        }
        body["client_order_id"] = Value::Null;
        body["extended_hours"] = json!(false);
        body["something_new"] = json!({"deep": [1, 2]});
        assert_eq!(parsed(&body), parsed(&base()));
    }

    #[test]
    fn each_missing_field_is_named() {
        for name in ["symbol", "qty", "side", "type", "time_in_force", "limit_price"] {
            let mut body = base();
            body.as_object_mut().unwrap().remove(name);
            let error = parsed(&body).unwrap_err();
            assert!(error.starts_with(&format!("{name} is required")), "{error}");
        }
    }

    #[test]
    fn each_unserved_feature_is_refused_by_name() {
        let cases = [
            ("notional", json!("100")),
            ("stop_price", json!(1)),
            ("trail_price", json!("1")),
            ("trail_percent", json!("1")),
            ("take_profit", json!({"limit_price": "1"})),
            ("stop_loss", json!({})),
            ("legs", json!([])),
            ("advanced_instructions", json!({"algorithm": "VWAP"})),
            ("extended_hours", json!(true)),
            ("extended_hours", json!("true")),
            ("order_class", json!("bracket")),
            ("type", json!("stop")),
            ("type", json!("trailing_stop")),
            ("time_in_force", json!("ioc")),
            ("side", json!("sell_short")),
            ("side", json!("BUY")),
            ("position_intent", json!("sell_to_open")),
            ("order_type", json!("market")),
            ("currency", json!("KRW")),
        ];
        for (name, value) in cases {
            let error = parsed(&with(name, value)).unwrap_err();
            assert!(error.starts_with(&format!("{name} ")), "{error}");
        }
        assert!(parsed(&with("position_intent", json!("buy_to_open"))).is_ok());
        assert!(parsed(&with("order_class", json!("simple"))).is_ok());
    }

    #[test]
    fn bad_quantities_and_prices_are_refused_by_name() {
        let numbers = [
            json!("0"),
            json!(0),
            json!("-1"),
            json!(-1),
            json!("NaN"),
            json!("Infinity"),
            json!("abc"),
            json!(""),
            json!("1,5"),
            json!("1_0"),
            json!("0x1"),
            json!("1e400"),
            json!("1000000000"),
            json!("0.1234567891"),
            json!(true),
            json!([1]),
            json!({"a": 1}),
            json!("1\u{0}"),
            json!("9".repeat(100)),
        ];
        for name in ["qty", "limit_price"] {
            for number in &numbers {
                let error = parsed(&with(name, number.clone())).unwrap_err();
                assert!(error.starts_with(&format!("{name} ")), "{number}: {error}");
            }
        }
        let bare_nan = base().to_string().replace("\"2\"", "NaN");
        assert!(matches!(parse(bare_nan.as_bytes()), Err(OrderBodyError::Json(_))));
    }

    #[test]
    fn sub_penny_prices_have_the_code_of_a_business_rule() {
        for price in ["150.101", "150.10001"] {
            let body = with("limit_price", json!(price)).to_string();
            let Err(OrderBodyError::Field(error)) = parse(body.as_bytes()) else { panic!("taken: {price}") };
            assert_eq!((error.field.as_str(), error.code), ("limit_price", 42_210_000));
        }
        assert!(parsed(&with("limit_price", json!("0.1234"))).is_ok());
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        assert!(parsed(&with("type", json!("market"))).unwrap_err().starts_with("limit_price must be left out"));
        assert!(parsed(&with("notional", json!(100))).unwrap_err().starts_with("notional "));
        let twice = base().to_string().replace("\"qty\"", "\"qty\":1,\"qty\"");
        assert_eq!(parse(twice.as_bytes()).unwrap_err().to_string(), "qty is given twice");
    }

    #[test]
    fn a_client_order_id_is_checked_and_may_be_absent() {
        assert_eq!(parsed(&base()).unwrap().client_order_id, None);
        for bad in [json!(""), json!("x".repeat(129)), json!("a\u{0}b"), json!("주문"), json!(7)] {
            let error = parsed(&with("client_order_id", bad)).unwrap_err();
            assert!(error.starts_with("client_order_id "), "{error}");
        }
        assert!(parsed(&with("client_order_id", json!("x".repeat(128)))).unwrap().client_order_id.is_some());
    }

    #[test]
    fn a_symbol_is_upper_case() {
        for bad in [json!("aapl"), json!(""), json!("A B"), json!("AAPL\u{0}"), json!("A".repeat(17)), json!(1)] {
            assert!(parsed(&with("symbol", bad)).unwrap_err().starts_with("symbol "));
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            "[0-9.eE+-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn no_value_of_any_field_makes_it_panic(
            name in prop::sample::select(vec!["symbol", "qty", "side", "type", "time_in_force", "limit_price",
                "client_order_id", "order_class", "extended_hours", "position_intent", "legs", "notional"]),
            value in any_json(),
        ) {
            let _ = parsed(&with(name, value));
        }

        #[test]
        fn what_is_taken_has_exactly_the_quantity_that_was_written(whole in 0u32..1_000_000_000, fraction in 0u32..1_000_000_000) {
            prop_assume!(whole > 0 || fraction > 0);
            let text = format!("{whole}.{fraction:09}");
            let body = base().to_string().replace("\"2\"", &text);
            let order = parse(body.as_bytes()).unwrap();
            prop_assert_eq!(order.terms.quantity(), Quantity::parse(&text).unwrap());
        }
    }
}
