//! The page's texts, in both languages side by side. A text promises no more than the answer of the
//! sale.

use super::does::Does;
use crate::outcome::Outcome;
use contracts::{HoldState, ItemSpec, ItemState, SaleSpec, SaleState};
use units::DurationMs;
use web::page::Lang;

/// The texts in one language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words(pub(super) Lang);

impl Words {
    pub(super) fn say(self, en: &'static str, zh: &'static str) -> &'static str {
        self.0.say(en, zh)
    }

    pub(super) fn sale_name(self, spec: &SaleSpec) -> &str {
        spec.name_zh.as_deref().filter(|_| self.0 == Lang::Zh).unwrap_or(&spec.name)
    }

    pub(super) fn item_name(self, item: &ItemSpec) -> &str {
        item.name_zh.as_deref().filter(|_| self.0 == Lang::Zh).unwrap_or(&item.name)
    }

    pub(super) fn sale_state(self, state: SaleState) -> &'static str {
        match state {
            SaleState::Scheduled => self.say("Not open yet", "尚未开始"),
            SaleState::Open => self.say("Open", "抢购中"),
            SaleState::Paused => self.say("Paused", "已暂停"),
            SaleState::Closed => self.say("Closed", "已结束"),
        }
    }

    pub(super) fn item_state(self, state: ItemState) -> &'static str {
        match state {
            ItemState::Upcoming => self.say("Upcoming", "即将开售"),
            ItemState::Available => self.say("Available", "有货"),
            ItemState::SoldOut => self.say("Sold out", "已售罄"),
        }
    }

    /// What a button does.
    pub(super) fn does(self, does: Does) -> &'static str {
        match does {
            Does::Buy => self.say("Buy now", "立即抢购"),
            Does::JoinWaitlist => self.say("Sold out: join the waitlist", "已售罄：加入候补"),
            Does::SoldOut => self.item_state(ItemState::SoldOut),
            Does::Upcoming => self.item_state(ItemState::Upcoming),
            Does::HasAll => self.say("You have as many as you may have", "您已达到限购数量"),
            Does::Wait => self.say("Waiting for the opening", "等待开始"),
            Does::Paused => self.sale_state(SaleState::Paused),
            Does::Ended => self.say("Ended", "已结束"),
        }
    }

    /// `2 d 03:04:05`, without days below one.
    pub(super) fn time_left(self, left: DurationMs) -> String {
        let seconds = left.0 / 1000;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        match seconds / 86_400 {
            0 => clock,
            days => format!("{days} {} {clock}", self.say("d", "天")),
        }
    }

    /// An outcome's heading and explanation.
    pub(super) fn outcome(self, outcome: &Outcome) -> (&'static str, &'static str) {
        if let Some(hold) = &outcome.hold {
            return self.hold(hold.state);
        }
        match outcome.outcome {
            "queued" => (
                self.say("You are in line", "您正在排队"),
                self.say(
                    "Your request is in and will be answered in order. Keep this page, or its address: your place stays even if you close it.",
                    "您的请求已收到，将按顺序处理。请保留此页面或其网址；即使关闭页面，您的位置也会保留。",
                ),
            ),
            "waitlisted" if outcome.place == Some("left") => (
                self.say("Your place on the waitlist is over", "您的候补资格已结束"),
                self.say("It was given up or taken back.", "候补资格已被放弃或收回。"),
            ),
            "waitlisted" => (
                self.say("You are on the waitlist", "您已进入候补名单"),
                self.say(
                    "Nothing is free now. When a shopper does not pay, the next one on the list gets the chance. Keep this page open, or look in again: when your turn comes, the time to pay is limited.",
                    "当前无货。如有顾客未付款，将按候补顺序递补。请保留本页或稍后再来查看：轮到您时，付款时间有限。",
                ),
            ),
            "sold_out" => (
                self.say("Sold out. Thank you for being here", "已售罄，感谢您的参与"),
                self.say(
                    "Nothing was left when you asked. What others give back comes on sale again, so you may try again.",
                    "您提交时已无货。他人退回或未付款的商品会重新开售，您可以再试。",
                ),
            ),
            "limit_reached" => (
                self.say("Your limit is reached", "已达到限购数量"),
                self.say("You already have as many as one shopper may have, so that there is enough for others.", "您已拥有每位顾客可购买的最大数量，其余留给其他顾客。"),
            ),
            "not_eligible" => (
                self.say("Not for this sale", "您不符合本次活动的条件"),
                self.say("This sale is for a list of shoppers, and you are not on it.", "本次活动仅限指定顾客参加，您不在名单中。"),
            ),
            "not_open" => (
                self.say("Not open yet", "尚未开始"),
                self.say("Asking early gains nothing and costs nothing. Wait for the countdown.", "提前提交既无优势也无损失，请等待倒计时结束。"),
            ),
            "closed" => (
                self.say("The sale is over", "活动已结束"),
                self.say("Nothing more is sold.", "不再接受新的请求。"),
            ),
            "paused" => (
                self.say("The sale is paused", "活动已暂停"),
                self.say("Nothing is sold now. What is kept for you stays yours until the time shown.", "当前暂停销售，您已占有的商品在所示时间之前仍为您保留。"),
            ),
            _ => (
                self.say("No answer is kept", "没有保存的结果"),
                self.say("This request got nothing. You may ask again.", "本次请求没有获得商品，您可以再试。"),
            ),
        }
    }

    /// The place of a queued attempt.
    pub(super) fn in_line(self, position: u64, wait_ms: Option<u64>) -> String {
        let before = match (self.0, position) {
            (Lang::En, 0) => "You are next.".to_owned(),
            (Lang::En, 1) => "1 is before you.".to_owned(),
            (Lang::En, _) => format!("{position} are before you."),
            (Lang::Zh, 0) => "下一位就是您。".to_owned(),
            (Lang::Zh, _) => format!("您前面还有 {position} 位。"),
        };
        let Some(wait_ms) = wait_ms else { return before };
        let seconds = wait_ms.div_ceil(1000).max(1);
        let minutes = seconds.div_ceil(60);
        let wait = match (self.0, seconds, minutes) {
            (Lang::En, 1, _) => "Your answer should come in about 1 second.".to_owned(),
            (Lang::En, ..90, _) => format!("Your answer should come in about {seconds} seconds."),
            (Lang::En, ..) => format!("Your answer should come in about {minutes} minutes."),
            (Lang::Zh, ..90, _) => format!("预计约 {seconds} 秒后有结果。"),
            (Lang::Zh, ..) => format!("预计约 {minutes} 分钟后有结果。"),
        };
        match self.0 {
            Lang::En => format!("{before} {wait}"),
            Lang::Zh => before + &wait,
        }
    }

    /// What happens when the turn of a shopper on the waitlist comes.
    pub(super) fn turn(self, hold_seconds: u64) -> String {
        let minutes = hold_seconds / 60;
        match (self.0, minutes) {
            (Lang::En, 0) => format!(
                "When your turn comes, this page shows it, and it is kept for you for {hold_seconds} seconds."
            ),
            (Lang::En, 1) => {
                "When your turn comes, this page shows it, and it is kept for you for a minute.".into()
            }
            (Lang::En, _) => format!(
                "When your turn comes, this page shows it, and it is kept for you for {minutes} minutes."
            ),
            (Lang::Zh, 0) => format!("轮到您时，本页会显示，并为您保留 {hold_seconds} 秒。"),
            (Lang::Zh, _) => format!("轮到您时，本页会显示，并为您保留 {minutes} 分钟。"),
        }
    }

    /// How many of an item were sold, and how many are kept for shoppers who have not paid yet.
    pub(super) fn sold(self, name: &str, sold: u64, held: u64) -> String {
        let proof = self.say("Each of them is in the sale's log.", "每一件都记录在活动日志中。");
        match (self.0, held) {
            (Lang::En, 0) => format!("{name}: {sold} sold. {proof}"),
            (Lang::En, _) => {
                format!("{name}: {sold} sold, and {held} kept for shoppers who are paying. {proof}")
            }
            (Lang::Zh, 0) => format!("{name}：已售出 {sold} 件。{proof}"),
            (Lang::Zh, _) => format!("{name}：已售出 {sold} 件，另有 {held} 件正在付款。{proof}"),
        }
    }

    fn hold(self, state: HoldState) -> (&'static str, &'static str) {
        match state {
            HoldState::Held => (
                self.say("It is yours to pay", "抢购成功，请付款"),
                self.say("It is kept for you until the time below.", "商品已为您保留至以下时间。"),
            ),
            HoldState::Confirmed => (
                self.say("Paid: it is yours", "已付款，商品归您"),
                self.say("The purchase is complete. Enjoy it!", "购买已完成，祝您使用愉快！"),
            ),
            HoldState::Released => {
                (self.say("Given back", "已退回"), self.say("It went back on sale.", "商品已重新开售。"))
            }
            HoldState::Expired => (
                self.say("The time to pay is over", "付款时间已过"),
                self.say(
                    "It went back on sale. If you have paid after all, the shop gives your money back.",
                    "商品已重新开售；如您已付款，商家将退还款项。",
                ),
            ),
            HoldState::Voided => (
                self.say("Taken back by the shop", "已被商家收回"),
                self.say("Ask the shop for the reason.", "请向商家咨询原因。"),
            ),
        }
    }
}

/// A sale's state, in a language.
pub(crate) fn state_in(lang: Lang, state: SaleState) -> &'static str {
    Words(lang).sale_state(state)
}
