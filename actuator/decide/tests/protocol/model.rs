//! Everything that can happen next, in every order.

use headroom_actuator_decide::protocol::Finding;
use stateright::{Model, Property};

use super::record::ACTIONS;
use super::rules::{Offer, Rules};
use super::world::{Actuator, Call, Faults, Wish, World, Wrong};

/// What is tried.
#[derive(Clone)]
pub(super) struct Scenario {
    pub(super) rules: Rules,
    pub(super) actuators: usize,
    /// One a window.
    pub(super) offers: Vec<Offer>,
    pub(super) wishes: Vec<Wish>,
    pub(super) faults: Faults,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    Start(usize),
    Crash(usize),
    /// It notices that another has begun a newer term.
    StandBy(usize),
    Window(usize),
    Go(usize),
    Hear {
        who: usize,
        wish: usize,
    },
    Expire(usize),
    Measure {
        who: usize,
        finding: Finding,
    },
    Retry(usize),
    GiveUp(usize),
    Arrive {
        call: Call,
        is_answer_lost: bool,
        comes_again: bool,
    },
    Drop(Call),
    TimeOut(usize),
}

impl Scenario {
    fn of_actuator(&self, world: &World, who: usize, events: &mut Vec<Event>) {
        let actuator = &world.actuators[who];
        if !actuator.is_up {
            if world.faults.starts > 0 || !world.is_any_up() {
                events.push(Event::Start(who));
            }
            return;
        }
        if world.faults.crashes > 0 {
            events.push(Event::Crash(who));
        }
        if world.is_succeeded(who) {
            events.push(Event::StandBy(who));
        }
        if actuator.can_go() {
            events.push(Event::Go(who));
        }
        if actuator.waits_for_target() && world.faults.losses > 0 {
            events.push(Event::TimeOut(who));
        }
        if actuator.can_retry() {
            events.push(Event::Retry(who));
        }
        if actuator.is_unsure() {
            events.push(Event::GiveUp(who));
        }
        if !actuator.is_idle() {
            return;
        }
        if actuator.can_decide(self.offers.len()) {
            events.push(Event::Window(who));
        }
        events.extend((0..world.wishes.len()).map(|wish| Event::Hear { who, wish }));
        if actuator.is_unsure() {
            return;
        }
        if actuator.view.find(self.rules.is_waiting).is_some() {
            events.push(Event::Expire(who));
        }
        events.extend(world.findings(who).iter().map(|finding| Event::Measure { who, finding: *finding }));
    }

    /// Nothing can happen but what goes wrong.
    fn is_quiet(&self, world: &World) -> bool {
        let mut events = Vec::new();
        self.actions(world, &mut events);
        events.iter().all(|event| matches!(event, Event::Crash(_)))
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            log: Vec::new(),
            effects: Vec::new(),
            calls: Default::default(),
            actuators: vec![Actuator::down(); self.actuators],
            wishes: self.wishes.clone(),
            faults: self.faults,
            wrong: Default::default(),
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if !world.wrong.is_empty() {
            return;
        }
        for who in 0..world.actuators.len() {
            self.of_actuator(world, who, events);
        }
        for call in &world.calls {
            let answers = if world.faults.losses > 0 { &[false, true][..] } else { &[false] };
            for is_answer_lost in answers.iter().copied() {
                events.push(Event::Arrive { call: *call, is_answer_lost, comes_again: false });
                if world.faults.repeats > 0 {
                    events.push(Event::Arrive { call: *call, is_answer_lost, comes_again: true });
                }
            }
            if !world.actuators[call.from].waits_for_target() {
                events.push(Event::Drop(*call));
            }
        }
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        match event {
            Event::Start(who) => {
                world.faults.starts -= u8::from(world.is_any_up());
                world.start(who, &self.rules);
            }
            Event::Crash(who) => {
                world.faults.crashes -= 1;
                world.stop(who);
            }
            Event::StandBy(who) => world.stop(who),
            Event::Window(who) => world.decide(who, &self.rules),
            Event::Go(who) => world.go(who, &self.offers, &self.rules),
            Event::Hear { who, wish } => world.hear(who, wish, &self.rules),
            Event::Expire(who) => world.expire(who, &self.rules),
            Event::Measure { who, finding } => world.measure(who, finding, &self.rules),
            Event::Retry(who) => world.retry(who),
            Event::GiveUp(who) => world.give_up(who, &self.rules),
            Event::Arrive { call, is_answer_lost, comes_again } => {
                if comes_again {
                    world.faults.repeats -= 1;
                } else {
                    world.calls.remove(&call);
                }
                world.arrive(call, is_answer_lost, &self.offers, &self.rules);
                if is_answer_lost {
                    world.faults.losses -= 1;
                    world.time_out(call.from, &self.rules);
                }
            }
            Event::Drop(call) => {
                world.calls.remove(&call);
            }
            Event::TimeOut(who) => {
                world.faults.losses -= 1;
                world.time_out(who, &self.rules);
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn never(world: &World, wrong: Wrong) -> bool {
            !world.wrong.contains(&wrong)
        }
        vec![
            Property::always("no effect without an intent", |_, world| never(world, Wrong::EffectWithoutIntent)),
            Property::always("no double effect", |_, world| never(world, Wrong::DoubleEffect)),
            Property::always("no overtaken effect", |_, world| never(world, Wrong::OvertakenEffect)),
            Property::always("nothing irreversible by itself", |_, world| never(world, Wrong::AutomaticIrreversible)),
            Property::always("no action on a stale model", |_, world| never(world, Wrong::ActionOnStaleModel)),
            Property::always("nothing begins once it is stopped", |_, world| never(world, Wrong::BegunAfterStop)),
            Property::always("nothing rolled back is done again", |_, world| never(world, Wrong::DoneAgain)),
            Property::always("every move is legal", |_, world| never(world, Wrong::IllegalMove)),
            Property::always("the record does not fork", |_, world| never(world, Wrong::Fork)),
            Property::always("no effect is taken for failed", |_, world| never(world, Wrong::Forgotten)),
            Property::always(
                "every action ends, and the target stands where the record says",
                |model: &Self, world: &World| !world.wrong.is_empty() || !model.is_quiet(world) || world.is_settled(),
            ),
            Property::sometimes("an action is verified", |_, world: &World| {
                world.log.iter().any(|entry| is_move_to(entry, headroom_proto::v1::ActionState::Verified))
            }),
            Property::sometimes("every window has its effect", |model: &Self, world: &World| {
                let forward = world.effects.iter().filter(|call| !call.is_undo).count();
                forward == model.offers.len().min(ACTIONS)
            }),
        ]
    }
}

fn is_move_to(entry: &super::record::Entry, state: headroom_proto::v1::ActionState) -> bool {
    matches!(entry.what, super::record::What::Move { to, .. } if to == state)
}
