<?php
// A receiver in PHP 8, without libraries: SECRET=whsec_… php -S 127.0.0.1:9000 receiver.php

const TOLERANCE_S = 300; // older requests may have been recorded and sent again by somebody

function key_of(string $secret): string
{
    return str_starts_with($secret, 'whsec_') ? base64_decode(substr($secret, 6)) : $secret;
}

/** Checks a request's raw bytes: signed by one of the secrets, and not long ago. */
function verified(array $keys, string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE_S) {
        return false;
    }
    foreach ($keys as $key) { // two while a secret rotates
        $hmac = hash_hmac('sha256', "$id.$timestamp.$body", $key, true);
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
            if (hash_equals('v1,' . base64_encode($hmac), $given)) {
                return true;
            }
        }
    }
    return false;
}

$keys = array_map('key_of', preg_split('/ /', getenv('SECRET') ?: '', -1, PREG_SPLIT_NO_EMPTY));
if ($keys === [] || in_array('', $keys, true)) {
    http_response_code(500);
    error_log('SECRET holds no secret: anybody could sign with an empty key');
    exit;
}
$body = file_get_contents('php://input'); // the bytes as they came: never json_encode of what was decoded
if ($_SERVER['REQUEST_METHOD'] !== 'POST' || !verified($keys, $body)) {
    http_response_code(401);
    exit("invalid signature\n");
}
echo "OK\n";

// Yours is a table with a unique key: a delivery can come again.
$id = $_SERVER['HTTP_WEBHOOK_ID'];
$mark = sys_get_temp_dir() . '/delivery-' . preg_replace('/[^a-z0-9_]/', '', $id);
if (@fopen($mark, 'x') !== false) {
    $event = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    file_put_contents('php://stderr', (($event['test'] ?? false) ? 'drill' : 'event') . " {$event['type']} $id\n");
}
