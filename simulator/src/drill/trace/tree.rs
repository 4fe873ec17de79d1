//! The steps of one order as a tree: whether it is one, and how it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use uuid::Uuid;

use super::collector::Step;

/// The step that every filled order has in each place, and the process that makes it.
const WANTED: [(&str, &str); 5] = [
    ("order.place", "order-server"),
    ("order.intake", "broker-gateway"),
    ("broker.call", "broker-gateway"),
    ("broker.event", "fill-receiver"),
    ("order.fact", "order-server"),
];
/// The first of them.
const ROOT: &str = "order.place";
/// How much earlier than the first step another may begin by its process's clock.
const CLOCK_SLACK_NS: u64 = 5_000_000;

/// What is wrong with the trace of a filled order; empty when nothing is.
#[must_use]
pub fn faults(order: Uuid, steps: &[Step]) -> Vec<String> {
    let mut faults = Vec::new();
    let roots: Vec<&Step> = steps.iter().filter(|step| step.parent.is_empty()).collect();
    let root = match roots.as_slice() {
        [root] if root.name == ROOT => *root,
        _ => return vec![format!("{order} has {} first steps, and must have one {ROOT}", roots.len())],
    };
    let ids: BTreeSet<&[u8]> = steps.iter().map(|step| step.span.as_slice()).collect();
    if ids.len() != steps.len() {
        faults.push(format!("{order} has two steps with one id"));
    }
    let parents: BTreeMap<&[u8], &[u8]> = steps.iter().map(|step| (&*step.span, &*step.parent)).collect();
    for step in steps {
        if !leads_to(&step.span, &root.span, &parents) {
            faults.push(format!("{order}: {} of {} does not lead back to {ROOT}", step.name, step.service));
        }
        if step.began_ns.saturating_add(CLOCK_SLACK_NS) < root.began_ns || step.ended_ns < step.began_ns {
            faults.push(format!("{order}: {} of {} has times that make no sense", step.name, step.service));
        }
        if step.attributes.get("order_id").map(String::as_str) != Some(&*order.to_string()) {
            faults.push(format!("{order}: {} of {} does not name the order", step.name, step.service));
        }
    }
    for (name, service) in WANTED {
        if !steps.iter().any(|step| step.name == name && step.service == service) {
            faults.push(format!("{order} has no {name} of {service}"));
        }
    }
    faults
}

/// Whether a step's parents lead to the root, in fewer steps than there are.
fn leads_to(from: &[u8], root: &[u8], parents: &BTreeMap<&[u8], &[u8]>) -> bool {
    let mut at = from;
    for _ in 0..parents.len() {
        if at == root {
            return true;
        }
        match parents.get(at) {
            Some(parent) => at = parent,
            None => return false,
        }
    }
    false
}

/// The tree, a line a step.
#[must_use]
pub fn text(order: Uuid, steps: &[Step]) -> String {
    let mut text = format!("trace {} is order {order}: {} steps\n", order.simple(), steps.len());
    let first = steps.iter().map(|step| step.began_ns).min().unwrap_or_default();
    for root in steps.iter().filter(|step| step.parent.is_empty()) {
        write_step(&mut text, steps, root, first, 0);
    }
    text
}

fn write_step(text: &mut String, steps: &[Step], step: &Step, first_ns: u64, depth: usize) {
    let ms = |ns: u64| format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000);
    let name = format!("{}{}", "   ".repeat(depth), step.name);
    let noted = step.attributes.iter().filter(|(key, _)| *key != "order_id");
    let noted: Vec<String> = noted.map(|(key, value)| format!("{key}={value}")).collect();
    let (at, took) = (ms(step.began_ns - first_ns), ms(step.ended_ns.saturating_sub(step.began_ns)));
    // Writing to a text cannot fail.
    let _written = writeln!(text, "{name:<20} {:<15} +{at:>9} ms {took:>9} ms  {}", step.service, noted.join(" "));
    // A cycle never begins at a first step; the bound is for whoever draws what is no tree.
    if depth < 8 {
        for child in steps.iter().filter(|other| other.parent == step.span) {
            write_step(text, steps, child, first_ns, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Uuid = Uuid::from_u128(7);

    fn step(place: usize, parent: Option<u8>) -> Step {
        let (name, service) = WANTED[place];
        Step {
            service: service.to_owned(),
            name: name.to_owned(),
            trace: ORDER.as_bytes().to_vec(),
            span: vec![u8::try_from(place).unwrap() + 1],
            parent: parent.into_iter().collect(),
            began_ns: 10_000_000 + u64::try_from(place).unwrap(),
            ended_ns: 20_000_000,
            attributes: BTreeMap::from([("order_id".to_owned(), ORDER.to_string())]),
        }
    }

    fn good() -> Vec<Step> {
        (0..WANTED.len()).map(|place| step(place, (place > 0).then_some(1))).collect()
    }

    #[test]
    fn a_whole_trace_is_a_tree_with_a_line_a_step() {
        assert_eq!(faults(ORDER, &good()), Vec::<String>::new());
        let text = text(ORDER, &good());
        assert_eq!(text.lines().count(), WANTED.len() + 1, "{text}");
        assert!(text.contains("\norder.place ") && text.contains("\n   broker.event "), "{text}");
    }

    #[test]
    fn whatever_a_trace_lacks_is_told() {
        let changed = |change: fn(&mut Vec<Step>)| {
            let mut steps = good();
            change(&mut steps);
            faults(ORDER, &steps)
        };
        assert!(!faults(ORDER, &[]).is_empty());
        for change in [
            (|steps| drop(steps.pop())) as fn(&mut Vec<Step>),
            |steps| drop(steps.remove(0)),
            |steps| steps[3].service = "order-server".to_owned(),
            |steps| steps[2].parent = vec![9],
            |steps| steps[2].parent = vec![3],
            |steps| steps[2].parent.clear(),
            |steps| steps[2].span = vec![2],
            |steps| steps[2].began_ns = 1,
            |steps| steps[2].ended_ns = 1,
            |steps| steps[4].attributes.clear(),
            |steps| (steps[2].parent, steps[3].parent) = (vec![4], vec![3]),
        ] {
            assert!(!changed(change).is_empty());
        }
    }
}
