//! The ports between the contexts of the store, over a wire: for each of them what calls it in
//! another process, and what answers such a call. The table says what goes over it.

use super::client::Elsewhere;
use contracts::{
    SaleId,
    store::{
        AccountId, Accounts, Address, AskReset, Asked, CameBack, CartOwner, CartView, Carts, Catalog,
        Category, CheckOut, Credentials, Deleted, ForSale, FromProvider, GoToProvider, Guest, GuestCart,
        Guests, HoldRef, HoldsPersonalData, InTheWay, Language, Listings, LogInWays, NewAccount, NewGuest,
        OrderId, OrderView, Orders, OwnPassword, Page, PaymentId, PaymentView, Payments, Product,
        ProductQuery, ProductSlug, Profile, ProviderAnswer, Quantity, Quote, RequestReturn, Reserved,
        ResetPassword, SessionView, ShippingMethod, SignInProvider, SignedIn, Sku, StartPayment,
        StartedPayment, Stock, StockLevel, StockLine, TakeOver, TakenFrom,
    },
};
use std::sync::Arc;
use units::{Money, TimeMs};

/// Why a call was not made: the caller speaks of what is not here, or not as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotCalled {
    Unknown,
    Unreadable,
}

macro_rules! ports {
    ($($field:ident: $port:ident {
        $($method:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        /// The ports that this process answers for other processes.
        #[derive(Clone, Default)]
        pub(in crate::store) struct Offered {
            $(pub(in crate::store) $field: Option<Arc<dyn $port>>,)*
        }

        impl Offered {
            /// Calls a method by its name. Arguments are a JSON array (`null` of a method without
            /// any), and the answer is a `Result` in JSON.
            pub(super) async fn call(
                &self,
                port: &str,
                method: &str,
                arguments: &[u8],
            ) -> Result<Vec<u8>, NotCalled> {
                match (port, method) {
                    $($((stringify!($field), stringify!($method)) => {
                        let port = self.$field.as_ref().ok_or(NotCalled::Unknown)?;
                        let ($($arg,)*): ($($type,)*) =
                            serde_json::from_slice(arguments).map_err(|_| NotCalled::Unreadable)?;
                        let answer = port.$method($($arg),*).await;
                        serde_json::to_vec(&answer).map_err(|_| NotCalled::Unreadable)
                    })*)*
                    _ => Err(NotCalled::Unknown),
                }
            }
        }

        $(impl $port for Elsewhere {
            $(fn $method(&self, $($arg: $type),*) -> Asked<'_, $answer> {
                let arguments = ($($arg,)*);
                Box::pin(self.ask(stringify!($field), stringify!($method), arguments))
            })*
        })*

        /// The names of all ports.
        #[cfg(test)]
        pub(super) const NAMES: &[&str] = &[$(stringify!($field)),*];
    };
}

ports! {
    catalog: Catalog {
        categories() -> Vec<Category>;
        products(query: ProductQuery) -> Listings;
        product(slug: ProductSlug) -> Option<Product>;
        for_sale(skus: Vec<Sku>) -> Vec<ForSale>;
        of_sale(sale: SaleId) -> Vec<Product>;
    }
    accounts: Accounts {
        register(new: NewAccount) -> SignedIn;
        log_in(credentials: Credentials) -> Option<SignedIn>;
        log_out(session: String) -> ();
        session(session: String) -> Option<SignedIn>;
        ask_reset(ask: AskReset) -> ();
        reset_link_is_good(link: String) -> bool;
        reset_password(reset: ResetPassword) -> bool;
        change_password(own: OwnPassword, new: String) -> Option<SignedIn>;
        rename(account: AccountId, name: String) -> ();
        sessions(account: AccountId, session: String) -> Vec<SessionView>;
        log_out_elsewhere(own: OwnPassword) -> Option<SignedIn>;
        delete(own: OwnPassword) -> Deleted;
        profile(account: AccountId) -> Option<Profile>;
        log_in_ways(account: AccountId) -> LogInWays;
        disconnect(own: OwnPassword) -> Option<SignedIn>;
        addresses(account: AccountId) -> Vec<Address>;
        use_address(account: AccountId, address: Address) -> ();
        forget_address(account: AccountId, address: Address) -> ();
        sale_token(account: AccountId) -> String;
    }
    guests: Guests {
        new_secret() -> (String, AccountId);
        keep(new: NewGuest) -> AccountId;
        ordered(shopper: AccountId) -> ();
        not_ordered(shopper: AccountId) -> ();
        guest(secret: String) -> Option<Guest>;
        take_over(take: TakeOver) -> SignedIn;
        forget(link: String) -> Deleted;
    }
    provider: SignInProvider {
        go(next: String, language: Language) -> GoToProvider;
        connect(own: OwnPassword) -> Option<GoToProvider>;
        come_back(from: FromProvider) -> ProviderAnswer;
    }
    personal_data: HoldsPersonalData {
        in_the_way(shopper: AccountId) -> Option<InTheWay>;
        erase(shopper: AccountId) -> bool;
    }
    orders: Orders {
        orders(shopper: AccountId, after: Option<String>, at_most: usize) -> Page<OrderView>;
        order(shopper: AccountId, order: OrderId) -> Option<OrderView>;
        of_hold(shopper: AccountId, hold: HoldRef) -> Option<OrderView>;
        send_to(shopper: AccountId, order: OrderId, address: Address) -> OrderView;
        request_return(shopper: AccountId, order: OrderId, wanted: RequestReturn) -> OrderView;
        withdraw_return(shopper: AccountId, order: OrderId, number: u32) -> OrderView;
        cancel(shopper: AccountId, order: OrderId) -> OrderView;
    }
    carts: Carts {
        cart(owner: CartOwner) -> CartView;
        units(owner: CartOwner) -> u32;
        change(owner: CartOwner, sku: Sku, quantity: Quantity) -> ();
        merge(guest: GuestCart, into: AccountId) -> ();
        quotes(goods: Money) -> Vec<(ShippingMethod, Quote)>;
        new_key(shopper: AccountId) -> OrderId;
        check_out(check_out: CheckOut) -> OrderView;
    }
    payments: Payments {
        start(start: StartPayment) -> StartedPayment;
        of_order(order: OrderId) -> Vec<PaymentView>;
        refund(payment: PaymentId, reason: String) -> ();
        refund_part(payment: PaymentId, key: String, amount_minor: u64, reason: String) -> ();
        forgo_part(payment: PaymentId, key: String, amount_minor: u64) -> ();
    }
    stock: Stock {
        levels(skus: Vec<Sku>) -> Vec<StockLevel>;
        shown(skus: Vec<Sku>) -> Vec<StockLevel>;
        reserve(order: OrderId, from: TakenFrom, lines: Vec<StockLine>, until: TimeMs) -> Reserved;
        confirm(order: OrderId) -> Reserved;
        release(order: OrderId, reason: String) -> ();
        ship(order: OrderId) -> ();
        take_back(order: OrderId, key: String, lines: Vec<StockLine>, what: CameBack) -> ();
    }
}
