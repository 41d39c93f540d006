//! The operators' pages of the store, of which each context has its own.

/// Their paths, and what they are called in English and in Chinese.
pub const CONSOLE_PLACES: [(&str, &str, &str); 7] = [
    ("/console", "Orders", "订单"),
    ("/console/returns", "Returns", "退货"),
    ("/console/products", "Products", "商品"),
    ("/console/categories", "Categories", "分类"),
    ("/console/stock", "Stock", "库存"),
    ("/console/accounts", "Customers", "客户"),
    ("/console/payments", "Payments", "付款"),
];
