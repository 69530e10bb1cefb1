-- An independent MTA side: one session with a refused recipient, two messages without ABORT between them
-- (as Sendmail does), an unknown command. The Go test gives the socket as -D addr=... and the rules.
local function expect(what, got, want)
  if got ~= want then error(what .. ": got " .. tostring(got) .. ", want " .. tostring(want)) end
end
local function reply(what, want)
  local r = mt.getreply(conn)
  expect(what, r, want)
end

mt.set_timeout(60)
conn = mt.connect(addr)
if conn == nil then error("connect failed") end
expect("negotiate", mt.negotiate(conn, SMFI_VERSION, SMFI_V6_ACTS, SMFI_V6_PROT), nil)
expect("wants to change headers", mt.test_action(conn, SMFIF_CHGHDRS), true)
expect("can do without connect", mt.test_option(conn, SMFIP_NOCONNECT), false)
expect("answers headers", mt.test_option(conn, SMFIP_NR_HDR), true)

mt.macro(conn, SMFIC_CONNECT, "j", "mx.example.org", "v", "8.17.1")
expect("conninfo", mt.conninfo(conn, "client.example.net", "192.0.2.7"), nil)
reply("connect", SMFIR_CONTINUE)
expect("helo", mt.helo(conn, "client.example.net"), nil)
reply("helo", SMFIR_CONTINUE)

for n = 1, 2 do
  mt.macro(conn, SMFIC_MAIL, "i", "QUEUEID" .. n, "{auth_authen}", "alice")
  expect("mail", mt.mailfrom(conn, "<a@example.net>", "SIZE=1234", "BODY=8BITMIME"), nil)
  reply("mail", SMFIR_CONTINUE)
  expect("rcpt bad", mt.rcptto(conn, "<bad@example.org>", "NOTIFY=NEVER"), nil)
  reply("rcpt bad", SMFIR_REPLYCODE)
  expect("rcpt good", mt.rcptto(conn, "<good@example.org>"), nil)
  reply("rcpt good", SMFIR_CONTINUE)
  expect("rcpt drop", mt.rcptto(conn, "<drop@example.org>"), nil)
  reply("rcpt drop", SMFIR_CONTINUE)
  expect("data", mt.data(conn), nil)
  reply("data", SMFIR_CONTINUE)
  expect("header", mt.header(conn, "From", " a@example.net"), nil)
  expect("header", mt.header(conn, "Subject", "  two leading blanks"), nil)
  expect("eoh", mt.eoh(conn), nil)
  reply("eoh", SMFIR_CONTINUE)
  expect("body", mt.bodystring(conn, "hello\r\n"), nil)
  expect("eom", mt.eom(conn), nil)
  reply("eom", SMFIR_ACCEPT)
  expect("insert", mt.eom_check(conn, MT_HDRINSERT, "X-Top", " " .. n), true)
  expect("add", mt.eom_check(conn, MT_HDRADD, "X-End", " end"), true)
  expect("change", mt.eom_check(conn, MT_HDRCHANGE, "Subject", " changed"), true)
  expect("rcpt added", mt.eom_check(conn, MT_RCPTADD, "<extra@example.com>"), true)
  expect("rcpt deleted", mt.eom_check(conn, MT_RCPTDELETE, "<drop@example.org>"), true)
  expect("body", mt.eom_check(conn, MT_BODYCHANGE, "new body\r\n"), true)
end

expect("unknown", mt.unknown(conn, "WIZ"), nil)
reply("unknown", SMFIR_REPLYCODE)
mt.disconnect(conn)
