---@meta moongate
-- The policy language of moongate, for your editor. Generated: do not edit.

---A rule's options. mode = "shadow": asked and logged, not obeyed. at = "rcpt": a refusal at connect, helo or mail is given at each RCPT.
---@class RuleOptions
---@field name? string
---@field on_error? "tempfail"|"accept"|"reject"
---@field timeout? string|number
---@field mode? "enforce"|"shadow"
---@field at? string

---The client's connection.
---@class Conn
---@field id string Id of the session, as in the log.
---@field ip string? Address of the client, "192.0.2.1" or "2001:db8::1"; nil on a unix socket.
---@field net string? Its network, "192.0.2.0/24" or "2001:db8::/64".
---@field port integer? The client's port.
---@field ptr string? Its name by DNS, if that name leads back to the address.
---@field helo string? Name given with EHLO or HELO; nil before it. "" from mail on, if an MTA that asks us or forwards clients to us let one go without.
---@field tls Tls? nil in clear.
---@field user string? Login name; nil if the client has not logged in.
---@field listener string Where the client connected.
---@field data table Yours, as long as the connection lives: text, numbers, booleans, tables of them; 64 KiB.
local Conn = {}

---An encrypted connection.
---@class Tls
---@field version string "TLSv1.3".
---@field cipher string The cipher suite.
---@field sni string? The name the client asked for.
---@field peer string? Subject of the verified client certificate.
local Tls = {}

---One message, from MAIL to the final reply. It shows what goes on: a rule reads what the rules before it changed.
---@class Msg
---@field conn Conn The client's connection.
---@field id string Id of the message, as in the log and in our replies.
---@field from string Envelope sender, canonical; "" for bounces.
---@field from_domain string Its domain, lower case; "" for bounces.
---@field sender_key string Key for limits: the sender, or for bounces <> and the client's network, as the null sender is everyone's.
---@field size integer? Octets of the message as it came; nil until it is here.
---@field params table<string, string> Parameters of MAIL, as the client wrote them: msg.params.SIZE; "" where there is no value.
---@field rcpts string[] Addresses that are to get the message; a new table each time.
---@field filters table<string, Filter> What the verifying filters said, at message: local f = msg.filters.rspamd; nil for one that was not asked. A rule's refusal replaces a filter's; accept() and silence let it stand.
---@field data table Yours, as long as the message lives: text, numbers, booleans, tables of them; 64 KiB.
---@field subject string? The Subject, decoded; nil if there is none or the header is not here yet.
---@field header_from string? The one address of the one From field, canonical; nil if there is none or more than one.
---@field header_from_domain string? Its domain.
---@field header_from_count integer? How many From fields there are; nil before the header is here.
local Msg = {}

---Replaces the envelope sender. Bounces go to it, so a bounce keeps its null sender unless options.bounce is true. From mail on.
---@param address string The new envelope sender; "" for none.
---@param options? {bounce: boolean?} bounce = true allows it on or to the null sender.
function Msg:set_from(address, options) end

---Adds a recipient. From mail on.
---@param address string Who is to get the message, too.
---@param options? {optional: boolean?, notify: string?} optional = true: the upstream may refuse it alone; without it, such a refusal refuses the message. notify is the DSN NOTIFY parameter, by default "NEVER": an archive must not bounce to the outside.
function Msg:add_rcpt(address, options) end

---Leaves a filter out of this message. Only at mail.
---@param name string The filter's name; its address if [[filter]] gives it none. check warns of one that is none.
function Msg:skip_filter(name) end

---Takes a recipient away that was accepted before, as often as the client named it. At rcpt, drop() is for the one under judgement. From rcpt on.
---@param address string Whom, in any spelling.
---@return boolean found false if it is none of msg.rcpts.
function Msg:remove_rcpt(address) end

---Sends a recipient's copy to another address. An address means all of msg.rcpts that have it, and the one under judgement. From rcpt on.
---@param who string|Rcpt The recipient under judgement, or an address in any spelling.
---@param address string The new address.
---@return boolean found false if it is none of msg.rcpts, nor under judgement.
function Msg:replace_rcpt(who, address) end

---Reads a header field. From headers on.
---@param name string The field's name, in any case.
---@return string? value The first field of that name, unfolded; nil if there is none.
function Msg:header(name) end

---Goes over the fields of that name: `for h in msg:headers("Received") do ... end`. From headers on.
---@param name? string Without it: every field.
---@return fun(): Header? next
function Msg:headers(name) end

---Adds a field behind the last. From mail on.
---@param name string The field's name, in any case.
---@param value string Its value. What is no ASCII is encoded (RFC 2047) unless the message is SMTPUTF8; long values are folded; a line end in it is an error.
function Msg:add_header(name, value) end

---Puts a field on top, or at a position. From mail on.
---@param name string The field's name, in any case.
---@param value string Its value. What is no ASCII is encoded (RFC 2047) unless the message is SMTPUTF8; long values are folded; a line end in it is an error.
---@param position? integer 0, the default, is the top, or below the lines "From ..." of an mbox if the message begins with such.
function Msg:insert_header(name, value, position) end

---Gives the message exactly one field of that name: the first one is changed, others are removed; if there is none it is added. From headers on.
---@param name string The field's name, in any case.
---@param value string Its value. What is no ASCII is encoded (RFC 2047) unless the message is SMTPUTF8; long values are folded; a line end in it is an error.
function Msg:set_header(name, value) end

---Removes header fields. From headers on.
---@param name string The field's name, in any case.
---@param which? integer|fun(value: string): boolean The how-manieth (1 is the first), or a function that says true for those to remove; without it: all.
---@return integer removed How many.
function Msg:remove_header(name, which) end

---The body as text. It counts against the rule's memory. From message on.
---@param max? integer At most so many octets, by default 1 MiB.
---@return string text As it goes on: lines end in CRLF, encodings are left as they are.
---@return boolean cut Whether there is more.
function Msg:body(max) end

---Replaces the whole body. The header says how a body is to be read (Content-Type, Content-Transfer-Encoding): that is for the author to keep right. From message on.
---@param text string Line ends of any kind become CRLF. Octets that are no ASCII need a message that is 8BITMIME or has some already.
function Msg:replace_body(text) end

---One header field, from msg:headers().
---@class Header
---@field name string As it is written.
---@field value string Unfolded.
---@field raw string As it came, with name, folds and the final line end.
local Header = {}

---Removes the field.
function Header:remove() end

---Changes its value.
---@param value string Its value. What is no ASCII is encoded (RFC 2047) unless the message is SMTPUTF8; long values are folded; a line end in it is an error.
function Header:set(value) end

---What a filter said of the message, from msg.filters.
---@class Filter
---@field name string The filter's name.
---@field verdict string "continue" or "accept", which both let it pass (accept: the filter wants to hear no more of it, or of the client), "reject", "tempfail", "discard" or "quarantine". That of a filter with mode = "shadow" is always "continue": see would.
---@field would string? Of a filter with mode = "shadow", the verdict that it would have had, at whatever command, and if it failed that of its on_error. A refusal of single recipients is not in it, nor the changes it wanted. nil of a filter that is obeyed.
---@field code integer? Code of the reply it wants; nil if it wants none.
---@field reply string? The whole reply.
---@field error string? Why it could not be asked; its verdict is then what its on_error makes of that, "continue" where it lets the message pass.
local Filter = {}

---The recipient under judgement.
---@class Rcpt
---@field address string The address, canonical.
---@field user string Its local part, unquoted.
---@field domain string Its domain, lower case; "" for a bare local part.
---@field postmaster boolean Whether it is postmaster, bare or at any domain, in any case.
---@field params table<string, string> Parameters of RCPT, as the client wrote them.
---@field class string? Yours to set: recipients of different classes can be brought apart (one_class_per_message).
local Rcpt = {}

---A login under way.
---@class Attempt
---@field mech string The mechanism, upper case.
---@field user string? The login name, where the mechanism shows it.
---@field pass string? The password, where the mechanism shows it.
local Attempt = {}

---How a message ended.
---@class Outcome
---@field action string "accepted", "rejected", "tempfailed", "discarded", "quarantined" or "aborted".
---@field by string Who decided: "policy", "filter", "upstream", "moongate", "client".
---@field code integer? Code of the final reply; nil if there was none.
---@field reply string? The final reply.
---@field rule string? The rule that decided, file:line and name, as in the log.
---@field reason string? Its reason, as in the log.
---@field cause string? Why it was aborted or failed.
---@field queued_as string? The upstream's queue id.
---@field size integer Octets received.
local Outcome = {}

---A limit, by ratelimit().
---@class RateLimit
local RateLimit = {}

---Takes n, all rates or none. A refusal that says 4xx has the client come again, for days if it is never; 5xx tells the sender. At rcpt it belongs to the recipient, from mail to message to the message: refused later, it is given back.
---@param key string Whose: an address, a login, a network; without regard to case.
---@param n? integer How many, by default 1.
---@return boolean ok
---@return integer? wait Whole seconds until there would be enough.
---@return boolean? never true where n is more than the limit lets through at once: there will never be enough, and wait says how long so many take one by one.
function RateLimit:take(key, n) end

---How many could be taken now.
---@param key string
---@return integer left
function RateLimit:peek(key) end

---Forgets what was taken.
---@param key string
function RateLimit:reset(key) end

---Greylisting, by greylist().
---@class Greylist
local Greylist = {}

---Whether this recipient may pass; if not, `return tempfail(...)`. From rcpt on.
---@param conn Conn
---@param msg Msg
---@param rcpt Rcpt
---@return boolean pass true for a client that came back, or is known, or if the store is away.
---@return integer? wait Seconds until it passes.
function Greylist:check(conn, msg, rcpt) end

---Counts by key, by counter().
---@class Counter
local Counter = {}

---Adds n and returns the total.
---@param key string Without regard to case.
---@param n? integer By default 1.
---@return integer? total nil if the store is away, then an error text.
function Counter:add(key, n) end

---The total.
---@param key string
---@return integer? total 0 if nothing was counted.
function Counter:get(key) end

---Values by key, by cache().
---@class Cache
local Cache = {}

---Reads a value.
---@param key string Without regard to case.
---@return string|number|boolean|nil value nil if there is none; then an error text if the store is away.
function Cache:get(key) end

---Keeps a value, whatever was there.
---@param key string
---@param value string|number|boolean Text has at most 64 KiB.
---@return boolean stored
function Cache:set(key, value) end

---Notes a key; true if it was not there.
---@param key string
---@return boolean new false, too, if the store is away.
function Cache:add(key) end

---A set of words or domains.
---@class List
local List = {}

---Whether it is in the list, without regard to case.
---@param word? string nil is in no list.
---@return boolean found
function List:has(word) end

---A set of addresses and networks, by ipset().
---@class IpSet
local IpSet = {}

---Whether the address is in it.
---@param address? string nil, and what is no address, is in no set.
---@return boolean found
function IpSet:has(address) end

---Whether a text (a Received field) names an address in it.
---@param text? string
---@return boolean found
function IpSet:found_in(text) end

---A table of keys and values, by map().
---@class Map
local Map = {}

---The value of a key; in pcre and cidr tables of the first entry that matches.
---@param key? string nil is in no table.
---@return string? value nil if the key is not there.
function Map:get(key) end

---A regular expression, by re(). It takes texts of up to 1 MiB, which is what msg:body() gives by itself.
---@class Re
local Re = {}

---Whether it matches anywhere in the text.
---@param text? string nil never matches.
---@return boolean matches
function Re:test(text) end

---The first match, as string.match gives it.
---@param text? string
---@return string? match The match, or its groups if the pattern has some; nil without a match.
---@return string? ...
function Re:match(text) end

---The text with every match replaced.
---@param text string
---@param with string $1 or ${name} stands for a group.
---@return string text
function Re:replace(text, with) end

---DNS lists, by dnsbl().
---@class Dnsbl
local Dnsbl = {}

---Whether it is listed.
---@param what? string An address, or a domain (or mail address) for a list of domains.
---@return {zone: string, reason: string, answer: string}? hit The first list that has it; nil if none has, or none can be asked.
---@return string? err "temporary" if a list could not be asked that might have changed this.
function Dnsbl:check(what) end

---How badly it is listed.
---@param what? string As for check.
---@return number score The weights of the lists that have it, added up.
---@return string? err "temporary" if a list could not be asked that might have changed this.
function Dnsbl:score(what) end

---A counter for Prometheus, by metric().
---@class Metric
local Metric = {}

---Counts.
---@param n? number By default 1.
---@param labels? table<string, string> Always the same names; few values: beyond 100 combinations all is "other".
function Metric:add(n, labels) end

---What a rule returns. It comes from reject, tempfail, accept and their kin.
---@class Verdict
local Verdict = {}

---@class On
on = {}

---Before the banner.
---@overload fun(handler: fun(conn: Conn): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(conn: Conn): Verdict?
function on.connect(name_or_options, handler) end

---Each HELO and EHLO.
---@overload fun(handler: fun(conn: Conn): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(conn: Conn): Verdict?
function on.helo(name_or_options, handler) end

---AUTH, before the credentials go on.
---@overload fun(handler: fun(conn: Conn, attempt: Attempt): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(conn: Conn, attempt: Attempt): Verdict?
function on.auth(name_or_options, handler) end

---MAIL FROM.
---@overload fun(handler: fun(msg: Msg): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(msg: Msg): Verdict?
function on.mail(name_or_options, handler) end

---Each RCPT TO.
---@overload fun(handler: fun(msg: Msg, rcpt: Rcpt): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(msg: Msg, rcpt: Rcpt): Verdict?
function on.rcpt(name_or_options, handler) end

---DATA or the first BDAT, before any 354.
---@overload fun(handler: fun(msg: Msg): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(msg: Msg): Verdict?
function on.data(name_or_options, handler) end

---The end of the header; the body is not read yet.
---@overload fun(handler: fun(msg: Msg): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(msg: Msg): Verdict?
function on.headers(name_or_options, handler) end

---The whole message is here.
---@overload fun(handler: fun(msg: Msg): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(msg: Msg): Verdict?
function on.message(name_or_options, handler) end

---A command that nobody knows.
---@overload fun(handler: fun(conn: Conn, line: string): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(conn: Conn, line: string): Verdict?
function on.unknown(name_or_options, handler) end

---VRFY and EXPN.
---@overload fun(handler: fun(conn: Conn, line: string): Verdict?)
---@param name_or_options string|RuleOptions
---@param handler fun(conn: Conn, line: string): Verdict?
function on.vrfy(name_or_options, handler) end

---Always, at the end; it cannot change anything. A connection without a message is told once, with conn and nil.
---@overload fun(handler: fun(about: Msg|Conn, outcome: Outcome?))
---@param name_or_options string|RuleOptions
---@param handler fun(about: Msg|Conn, outcome: Outcome?)
function on.log(name_or_options, handler) end

---Refuses for good. The code is 5xx, by default 550 (554 at connect, 535 at auth); the status 5.7.1.
---@overload fun(text: string|string[]): Verdict
---@overload fun(status: string, text: string|string[]): Verdict
---@overload fun(code: integer, text: string|string[]): Verdict
---@param code integer The reply code; by default what the stage wants.
---@param status string The enhanced status code, "5.7.1".
---@param text string|string[] What the client reads; a list is a reply of several lines, at most 50.
---@return Verdict
---@nodiscard
function reject(code, status, text) end

---Refuses for now: the client comes back. The code is 4xx, by default 451 (421 at connect, 454 at auth); the status 4.7.1.
---@overload fun(text: string|string[]): Verdict
---@overload fun(status: string, text: string|string[]): Verdict
---@overload fun(code: integer, text: string|string[]): Verdict
---@param code integer The reply code; by default what the stage wants.
---@param status string The enhanced status code, "5.7.1".
---@param text string|string[] What the client reads; a list is a reply of several lines, at most 50.
---@return Verdict
---@nodiscard
function tempfail(code, status, text) end

---Refuses and closes the connection. The code is 4xx or 5xx, by default 421.
---@overload fun(text: string|string[]): Verdict
---@overload fun(status: string, text: string|string[]): Verdict
---@overload fun(code: integer, text: string|string[]): Verdict
---@param code integer The reply code; by default what the stage wants.
---@param status string The enhanced status code, "5.7.1".
---@param text string|string[] What the client reads; a list is a reply of several lines, at most 50.
---@return Verdict
---@nodiscard
function disconnect(code, status, text) end

---This stage's object is fine: the remaining rules of this stage are skipped (at rcpt: for this recipient).
---@return Verdict
---@nodiscard
function accept() end

---No more policy: at connect and helo for the connection, later for this message.
---@return Verdict
---@nodiscard
function bypass() end

---The whole message: the client hears 250 and nothing goes upstream. The log says so.
---@param reason? string For the log; the client never sees it.
---@return Verdict
---@nodiscard
function discard(reason) end

---This recipient: the client hears 250 and the upstream is told nothing of it.
---@param reason? string For the log; the client never sees it.
---@return Verdict
---@nodiscard
function drop(reason) end

---Keeps a copy in the quarantine, then as discard; in a milter the MTA's hold.
---@param reason? string For the log; the client never sees it.
---@return Verdict
---@nodiscard
function quarantine(reason) end

---Answers later.
---@param seconds number At most 30; in a milter 15.
---@param verdict? Verdict What to answer then; without it the next rule is asked.
---@return Verdict
---@nodiscard
function delay(seconds, verdict) end

---A limit: "60/1m" lets 60 through at once, then one a second.
---@param name string Its name; the same name is the same limit in every version of the policy.
---@param rate string|string[] "60/1m" or {"100/h", "500/d"}: all of them at once.
---@param options? {burst: integer?, count: string?} burst: how many of the shortest rate at once, by default its whole count. count = "recipients": from data on, take counts the recipients; a message with more of them than a rate has is an error of the rule.
---@return RateLimit
function ratelimit(name, rate, options) end

---A set of words: addresses, domains, anything; without regard to case. The file reloads by itself.
---@param file string A file in the policy directory: one entry a line, # begins a comment.
---@return List
function list(file) end

---A set of domains, subdomains included. has() takes a domain or an address.
---@param ... string|string[] Domains, a table of them, or one file of them in the policy directory. ".example.org" and "*.example.org" mean example.org, too.
---@return List
function domains(...) end

---A set of addresses and networks.
---@param ... string|string[] Addresses and networks ("10.0.0.0/8"), a table of them, or one file of them in the policy directory.
---@return IpSet
function ipset(...) end

---Counts by key.
---@param name string Its name; the same in every version of the policy.
---@param ttl string How long a key counts from its first add: "10m", "1d".
---@return Counter
function counter(name, ttl) end

---Keeps values by key, for all connections.
---@param name string Its name; the same in every version of the policy.
---@param ttl string How long a value is kept: "10m", "1d".
---@return Cache
function cache(name, ttl) end

---A regular expression whose time is linear in the text: safe for what strangers send.
---@param pattern string RE2 syntax; write it in [[...]] or [=[...]=].
---@return Re
function re(pattern) end

---A counter for Prometheus.
---@param name string Lower case letters, digits and _; scraped as moongate_script_NAME_total.
---@return Metric
function metric(name) end

---Greylisting: strangers are asked to come back, as every honest server does.
---@param name string Its name; the same in every version of the policy.
---@param options? {delay: string?, window: string?, keep: string?, net: integer[]?} delay ("5m"): not before; window ("24h"): not after; keep ("36d"): how long one that came back is known; net ({24, 64}): how much of an address is the client.
---@return Greylist
function greylist(name, options) end

---Looks keys up as Postfix would. The file reloads by itself. Expressions are RE2: no look-around.
---@param source string "texthash:FILE", "cidr:FILE" or "pcre:FILE": a Postfix table source in the policy directory.
---@return Map
function map(source) end

---DNS lists of addresses or domains. Zones are asked in parallel; one in trouble is passed over.
---@param zone string|string[]|table<string, number> "zen.example.org", several of them, or weights for score: { ["a.example"] = 3, ["b.example"] = -2 }.
---@param options? {answers: string|string[]?} answers: addresses or networks that mean "listed"; by default 127.0.0.0/16.
---@return Dnsbl
function dnsbl(zone, options) end

---Lines in the operator's log, with the session's and the message's id and the rule.
---@class loglib
log = {}

---Something an operator may look for.
---@param text string What happened.
---@param fields? table Values beside it: { score = 7.5 }. At most 16, no secrets.
function log.info(text, fields) end

---Something went wrong and the policy coped.
---@param text string What happened.
---@param fields? table Values beside it: { score = 7.5 }. At most 16, no secrets.
function log.warn(text, fields) end

---For the author.
---@param text string What happened.
---@param fields? table Values beside it: { score = 7.5 }. At most 16, no secrets.
function log.debug(text, fields) end

---Questions to the DNS. Answers are cached; a question waits at most 1.5 s.
---@class dnslib
dns = {}

---IPv4 addresses of a name.
---@param name string A domain.
---@return string[]? values Empty if there is no such name or record; nil if that cannot be said now.
---@return string? err "temporary".
function dns.a(name) end

---IPv6 addresses of a name.
---@param name string A domain.
---@return string[]? values Empty if there is no such name or record; nil if that cannot be said now.
---@return string? err "temporary".
function dns.aaaa(name) end

---Mail exchangers of a domain, the preferred one first.
---@param name string A domain.
---@return string[]? values Empty if there is no such name or record; nil if that cannot be said now.
---@return string? err "temporary".
function dns.mx(name) end

---Text records of a name.
---@param name string A domain.
---@return string[]? values Empty if there is no such name or record; nil if that cannot be said now.
---@return string? err "temporary".
function dns.txt(name) end

---Names of an address.
---@param ip string An address.
---@return string[]? values Empty if there is no such name or record; nil if that cannot be said now.
---@return string? err "temporary".
function dns.ptr(ip) end

---JSON, RFC 8259.
---@class jsonlib
json = {}

---Reads JSON.
---@param text string
---@return any value nil if it is no JSON, then an error text; null is nil, too.
function json.decode(text) end

---Writes JSON, keys sorted.
---@param value any A table with t[1] is an array, any other an object, an empty one {}.
---@return string text
function json.encode(value) end

---Base64, RFC 4648 4.
---@class base64lib
base64 = {}

---Encodes.
---@param text string
---@return string text
function base64.encode(text) end

---Decodes; blanks and line ends do not matter.
---@param text string
---@return string? text nil if it is no base64, then an error text.
function base64.decode(text) end

---Checksums, in hexadecimal.
---@class hashlib
hash = {}

---SHA-256.
---@param text string
---@return string hex
function hash.sha256(text) end

---SHA-1, for what asks for it; not for secrets.
---@param text string
---@return string hex
function hash.sha1(text) end

---MD5, for what asks for it; not for secrets.
---@param text string
---@return string hex
function hash.md5(text) end

---HMAC-SHA-256.
---@param key string
---@param text string
---@return string hex
function hash.hmac(key, text) end

---The clock.
---@class timelib
time = {}

---The time.
---@return number seconds Since 1970, with fractions.
function time.now() end

---The time taken apart, in the server's time zone.
---@param seconds? number By default now.
---@return {year: integer, month: integer, day: integer, hour: integer, min: integer, sec: integer, wday: integer} parts wday: 1 is Monday, 7 is Sunday.
function time.parts(seconds) end

---The time as "2026-01-31T12:00:00Z".
---@param seconds? number By default now.
---@return string text
function time.iso(seconds) end

---Addresses.
---@class iplib
ip = {}

---Which kind of address it is.
---@param ip? string
---@return integer? version 4, 6, or nil for what is no address.
function ip.version(ip) end

---The network of an address.
---@param ip string
---@param bits integer Length of the prefix.
---@return string? network "192.0.2.0/24"; nil for what is no address.
function ip.net(ip, bits) end

---An address as DNS lists want it.
---@param ip string
---@return string? name "1.2.0.192" for 192.0.2.1; nil for what is no address.
function ip.reverse(ip) end
