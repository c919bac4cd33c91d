//! One field of a calendar expression: the numbers that it allows.

use std::fmt;

/// Numbers from `from` to `to` that at least one component names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub components: Vec<Component>,
    /// Whether it is written `*`: every number that the field can have.
    pub any: bool,
}

/// `start`, `start + step`, … up to and with `stop`. A single number has both equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    pub start: u32,
    pub stop: u32,
    /// at least 1
    pub step: u32,
}

impl Component {
    pub fn one(value: u32) -> Component {
        Component { start: value, stop: value, step: 1 }
    }

    fn first_from(&self, value: u32) -> Option<u32> {
        if value <= self.start {
            return Some(self.start);
        }
        let steps = (value - self.start).div_ceil(self.step);
        let found = self.start.checked_add(steps.checked_mul(self.step)?)?;
        (found <= self.stop).then_some(found)
    }
}

impl Field {
    pub fn any(from: u32, to: u32) -> Field {
        Field { components: vec![Component { start: from, stop: to, step: 1 }], any: true }
    }

    pub fn one(value: u32) -> Field {
        Field::of(vec![Component::one(value)])
    }

    pub fn of(mut components: Vec<Component>) -> Field {
        components.sort_unstable();
        components.dedup();
        Field { components, any: false }
    }

    /// The least number that is allowed and not below `value`.
    pub fn first_from(&self, value: u32) -> Option<u32> {
        self.components.iter().filter_map(|component| component.first_from(value)).min()
    }

    pub fn contains(&self, value: u32) -> bool {
        self.first_from(value) == Some(value)
    }

    /// Whether it allows `value` and nothing else.
    pub fn is_just(&self, value: u32) -> bool {
        self.components == [Component::one(value)]
    }

    /// As systemd and cron write it: `range` is `..` or `-`. With `digits`
    /// numbers have at least so many, and `scale` of their units make one.
    pub fn text(&self, range: &str, digits: usize, scale: u32) -> String {
        if self.any {
            return "*".to_owned();
        }
        let number = |value: u32| Decimal { value, digits, scale };
        let component = |component: &Component| {
            let Component { start, stop, step } = *component;
            if start == stop {
                return number(start).to_string();
            }
            let bounds = format!("{}{range}{}", number(start), number(stop));
            match step == scale {
                true => bounds,
                false => format!("{bounds}/{}", Decimal { value: step, digits: 1, scale }),
            }
        };
        self.components.iter().map(component).collect::<Vec<_>>().join(",")
    }
}

struct Decimal {
    value: u32,
    digits: usize,
    scale: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.value / self.scale, self.value % self.scale);
        write!(f, "{whole:00$}", self.digits)?;
        if part > 0 {
            write!(f, ".{part:06}")?;
        }
        Ok(())
    }
}

/// The least combination of three fields' numbers that is not below `from`, the
/// first field counting most.
pub fn first_from(fields: [&Field; 3], from: [u32; 3]) -> Option<[u32; 3]> {
    // as many of the leading numbers as can stay, the next one up, the rest at its least
    let with_kept = |kept: usize| -> Option<[u32; 3]> {
        let stay = (0..kept).all(|place| fields[place].contains(from[place]));
        if !stay {
            return None;
        }
        let mut found = from;
        for place in kept..3 {
            let least = if place == kept { from[place] + 1 } else { 0 };
            found[place] = fields[place].first_from(least)?;
        }
        Some(found)
    };
    (0..=3).rev().find_map(with_kept)
}
