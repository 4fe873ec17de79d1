use super::*;
use crate::domain::polled::read_polled;
use contracts::{OrderId, Partition};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const POSITION: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn profile() -> BrokerProfile {
    BrokerProfile {
        broker: BrokerId::new("alpaca").unwrap(),
        execution_scope: ExecutionScope::Broker,
        executions: ExecutionsShown::Single,
    }
}

fn our_key() -> BrokerKey {
    BrokerKey::new(Partition::new(7).unwrap(), OrderId::new(Uuid::from_u128(7)))
}

fn wire(event: &str) -> Value {
    json!({
        "account_id": "a-1", "at": "2026-04-12T13:30:00.673857Z", "event": event, "event_id": POSITION,
        "execution_id": "e-1", "price": "187.1200", "qty": "2.0", "timestamp": "2026-04-12T13:30:00.6Z",
        "order": {"id": "61e69015-8549-4bfd-b9c3-01e75843f47d", "client_order_id": our_key().to_string(),
                  "symbol": "AAPL", "type": "market", "side": "buy", "time_in_force": "day",
                  "status": "partially_filled", "qty": "3", "filled_qty": "2"}
    })
}

fn read(value: &Value) -> Reading {
    read_frame(&profile(), RawFrame::new(value.to_string().into_bytes()))
}

fn reason(value: &Value) -> PoisonReason {
    read(value).outcome.unwrap_err().reason
}

#[test]
fn a_fill_is_read_with_exact_figures_and_our_order() {
    let reading = read(&wire("partial_fill"));
    let event = reading.outcome.unwrap();
    assert_eq!(reading.position, Cursor::parse(POSITION).ok());
    assert_eq!(event.event.order_id, Some(our_key().order_id()));
    assert_eq!(event.key, Some(our_key()));
    assert_eq!(event.event.cumulative_quantity, Some(Decimal::TWO));
    assert_eq!(
        event.event.fact,
        BrokerFact::Fill {
            execution_id: ExecutionId::new("e-1").unwrap(),
            quantity: Quantity::parse("2").unwrap(),
            price: Price::parse("187.12").unwrap(),
        }
    );
}

#[test]
fn a_repeat_under_another_position_with_other_bytes_has_the_same_identity_and_terms() {
    let first = read(&wire("partial_fill")).outcome.unwrap();
    let mut again = wire("fill");
    again["event_id"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FB0");
    again["price"] = json!(187.12);
    again["qty"] = json!(2);
    again["order"]["filled_qty"] = json!("3");
    let again = read(&again).outcome.unwrap();
    assert_eq!((first.event_id, &first.terms), (again.event_id, &again.terms));
}

#[test]
fn other_figures_under_the_same_identity_show_in_the_terms() {
    let first = read(&wire("fill")).outcome.unwrap();
    let mut other = wire("fill");
    other["price"] = json!("187.13");
    let other = read(&other).outcome.unwrap();
    assert_eq!(first.event_id, other.event_id);
    assert_ne!(first.terms, other.terms);
}

#[test]
fn a_state_has_the_position_in_its_identity() {
    let first = read(&wire("new")).outcome.unwrap();
    let mut again = wire("new");
    assert_eq!(read(&again).outcome.unwrap().event_id, first.event_id);
    again["event_id"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FB0");
    assert_ne!(read(&again).outcome.unwrap().event_id, first.event_id);
}

#[test]
fn bust_and_correct_name_the_execution_that_they_take_back() {
    let mut bust = wire("trade_bust");
    bust["qty"] = json!("-2");
    bust["previous_execution_id"] = json!("e-0");
    let previous_execution_id = ExecutionId::new("e-0").unwrap();
    let execution_id = ExecutionId::new("e-1").unwrap();
    assert_eq!(
        read(&bust).outcome.unwrap().event.fact,
        BrokerFact::Bust { execution_id: execution_id.clone(), previous_execution_id: previous_execution_id.clone() }
    );
    bust["event"] = json!("trade_correct");
    bust["qty"] = json!("1");
    assert!(matches!(read(&bust).outcome.unwrap().event.fact, BrokerFact::Correct { .. }));
    bust.as_object_mut().unwrap().remove("previous_execution_id");
    assert_eq!(reason(&bust), PoisonReason::Incomplete);
}

#[test]
fn an_end_without_a_cumulative_figure_does_not_claim_zero() {
    let mut canceled = wire("canceled");
    assert_eq!(read(&canceled).outcome.unwrap().event.cumulative_quantity, Some(Decimal::TWO));
    canceled["order"]["filled_qty"] = json!("0");
    assert_eq!(read(&canceled).outcome.unwrap().event.cumulative_quantity, Some(Decimal::ZERO));
    canceled["order"]["filled_qty"] = Value::Null;
    assert_eq!(read(&canceled).outcome.unwrap().event.cumulative_quantity, None);
    canceled["order"].as_object_mut().unwrap().remove("filled_qty");
    assert_eq!(read(&canceled).outcome.unwrap().event.cumulative_quantity, None);
}

#[test]
fn every_word_maps_to_the_fact_that_it_proves() {
    for word in ["accepted", "pending_new", "new", "held", "pending_cancel", "order_replace_rejected"] {
        assert_eq!(read(&wire(word)).outcome.unwrap().event.fact, BrokerFact::Live, "{word}");
    }
    for word in ["done_for_day", "calculated", "restated", "replaced", "a_word_of_tomorrow"] {
        assert_eq!(read(&wire(word)).outcome.unwrap().event.fact, BrokerFact::Other, "{word}");
    }
    assert_eq!(read(&wire("canceled")).outcome.unwrap().event.fact, BrokerFact::Canceled);
    assert_eq!(read(&wire("order_cancel_rejected")).outcome.unwrap().event.fact, BrokerFact::CancelRejected);
}

#[test]
fn a_foreign_order_is_read_without_an_order_of_ours() {
    let mut foreign = wire("fill");
    foreign["order"]["client_order_id"] = json!("someone\u{0}-else-주문");
    let event = read(&foreign).outcome.unwrap();
    assert_eq!((event.key, event.event.order_id), (None, None));
    assert_eq!(event.event.broker_client_order_id.as_deref(), Some("someone-else-주문"));
    foreign["order"]["client_order_id"] = json!("");
    assert_eq!(read(&foreign).outcome.unwrap().event.broker_client_order_id, None);
}

#[test]
fn what_cannot_be_understood_is_poison_and_still_shows_its_position() {
    let mut nonsense = wire("fill");
    nonsense["order"] = json!("gone");
    let reading = read(&nonsense);
    assert_eq!(reading.outcome.unwrap_err().reason, PoisonReason::Malformed);
    assert_eq!(reading.position, Cursor::parse(POSITION).ok());

    let mut no_id = wire("fill");
    no_id.as_object_mut().unwrap().remove("execution_id");
    assert_eq!(reason(&no_id), PoisonReason::Incomplete);
    for (field, value) in
        [("qty", json!("-1")), ("qty", json!("0")), ("price", json!("1.00001")), ("qty", json!("1e9"))]
    {
        let mut bad = wire("fill");
        bad[field] = value;
        assert_eq!(reason(&bad), PoisonReason::OutOfRange, "{field}");
    }
    let mut short = wire("fill");
    short["order"]["side"] = json!("sideways");
    assert_eq!(reason(&short), PoisonReason::OutOfRange);
}

#[test]
fn ids_unique_only_within_an_account_carry_the_account() {
    let by_account = BrokerProfile { execution_scope: ExecutionScope::Account, ..profile() };
    let mut event = wire("fill");
    let first = read_frame(&by_account, RawFrame::new(event.to_string().into_bytes())).outcome.unwrap();
    event["account_id"] = json!("a-2");
    let second = read_frame(&by_account, RawFrame::new(event.to_string().into_bytes())).outcome.unwrap();
    assert_ne!(first.event_id, second.event_id);
    event["account_id"] = Value::Null;
    let none = read_frame(&by_account, RawFrame::new(event.to_string().into_bytes())).outcome;
    assert_eq!(none.unwrap_err().reason, PoisonReason::Incomplete);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_poison_and_always_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let first = read_frame(&profile(), RawFrame::new(bytes.clone()));
        prop_assert!(first.outcome.is_err());
        prop_assert_eq!(first, read_frame(&profile(), RawFrame::new(bytes)));
    }

    #[test]
    fn no_text_from_outside_reaches_the_database_with_a_nul(client in "\\PC{0,40}", word in ".{0,80}", status in ".{0,80}") {
        let mut value = wire(&word);
        value["order"]["client_order_id"] = json!(format!("{client}\u{0}"));
        value["order"]["status"] = json!(status);
        if let Ok(event) = read(&value).outcome {
            let text = format!("{:?}", (event.event.broker_client_order_id, event.event.order_status, event.terms));
            prop_assert!(!text.contains("\\0"));
        }
    }
}

/// The same broker, which tells no executions.
fn cumulative() -> BrokerProfile {
    let resolution = Resolution { average_decimals: 9, quantity_decimals: 0 };
    BrokerProfile { executions: ExecutionsShown::Cumulative(resolution), ..profile() }
}

/// An event of such a broker, with what is filled in all.
fn shown(event: &str, status: &str) -> RawFrame {
    let mut wire = wire(event);
    for name in ["execution_id", "price", "qty"] {
        wire.as_object_mut().unwrap().remove(name);
    }
    wire["order"]["status"] = json!(status);
    wire["order"]["filled_avg_price"] = json!("187.125");
    RawFrame::new(wire.to_string().into_bytes())
}

#[test]
fn a_fill_without_an_execution_shows_what_is_filled_in_all_where_the_broker_tells_no_more() {
    let frame = shown("partial_fill", "partially_filled");
    assert_eq!(read_frame(&profile(), frame.clone()).outcome.unwrap_err().reason, PoisonReason::Incomplete);
    let event = read_frame(&cumulative(), frame).outcome.unwrap();
    assert_eq!((event.identity.kind(), &event.event.fact), ("state", &BrokerFact::Other));
    let filled = Cumulative { quantity: Decimal::TWO, amount: Decimal::new(37_425, 2) };
    assert_eq!(event.figures, Some(Figures { filled, is_ended: false }));
    let ended = read_frame(&cumulative(), shown("canceled", "canceled")).outcome.unwrap();
    assert_eq!((ended.event.fact, ended.figures), (BrokerFact::Canceled, Some(Figures { filled, is_ended: true })));
}

#[test]
fn a_derived_fill_reads_as_the_same_execution_whichever_frame_showed_it() {
    let part = Part { cumulative: Decimal::TWO, quantity: Decimal::ONE, price: Decimal::new(18_713, 2) };
    let [first, second] = ["partial_fill", "canceled"]
        .map(|event| derive_fill(&cumulative(), &shown(event, "canceled"), part).unwrap().outcome.unwrap());
    assert_eq!((first.event_id, &first.terms, first.figures), (second.event_id, &second.terms, None));
    assert_eq!(first.identity.kind(), "fill");
    let BrokerFact::Fill { quantity, price, .. } = first.event.fact else { panic!("no fill") };
    assert_eq!((quantity.value(), price.value()), (Decimal::ONE, Decimal::new(18_713, 2)));
    let bust = read_frame(&cumulative(), shown("trade_bust", "partially_filled")).outcome.unwrap_err();
    assert_eq!(bust.reason, PoisonReason::Incomplete, "what is taken back without a name is for a person");
}

#[test]
fn a_polled_order_is_an_event_without_a_place_in_the_stream() {
    for (status, fact) in [
        ("new", BrokerFact::Live),
        ("partially_filled", BrokerFact::Other),
        ("filled", BrokerFact::Other),
        ("canceled", BrokerFact::Canceled),
        ("pending_cancel", BrokerFact::Other),
    ] {
        let shown: Value = serde_json::from_slice(shown("new", status).bytes()).unwrap();
        let order = serde_json::value::to_raw_value(&shown["order"]).unwrap();
        let reading = read_frame(&cumulative(), read_polled("a-1", &order, 10_000).raw);
        assert_eq!(reading.position, None);
        let event = reading.outcome.unwrap();
        assert_eq!(event.event.fact, fact, "{status}");
        assert!(event.figures.is_some());
    }
}
