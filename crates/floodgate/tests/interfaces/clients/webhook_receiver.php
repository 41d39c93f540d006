<?php
// Plain PHP, as a shop's developer writes it from the text of Standard Webhooks. It keeps what it took.

function answer(int $status, string $why = ''): void
{
    http_response_code($status);
    echo $why;
    exit;
}

$key = base64_decode(substr(trim(file_get_contents(getenv('SECRET_FILE'))), strlen('whsec_')), true);
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
$timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
$signatures = $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '';
$body = file_get_contents('php://input');

if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
    answer(400, 'too old or too new');
}
$expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
foreach (explode(' ', $signatures) as $signature) {
    if (hash_equals($expected, $signature)) {
        json_decode($body, false, 512, JSON_THROW_ON_ERROR);
        $line = json_encode(['id' => $id, 'timestamp' => $timestamp, 'signature' => $signature, 'body' => $body]);
        file_put_contents(getenv('LEDGER'), "$line\n", FILE_APPEND | LOCK_EX);
        answer(204);
    }
}
answer(401, 'no signature fits');
