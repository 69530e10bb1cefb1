-- 70-spam.lua: mark what looks like spam, refuse what surely is.
--
-- Nothing here reads the body, so mail streams through. Lists of addresses say
-- who the client is, the header says what he brings; each sign has a weight.
--   trusted.txt    networks whose mail is not judged
--   words.txt      words that a subject of spam has, one a line

local trusted = ipset("trusted.txt")
local words   = list("words.txt")
local lists   = dnsbl { ["zen.spamhaus.org"] = 4, ["bl.spamcop.net"] = 2, ["list.dnswl.org"] = -3 }
local seen    = metric("spam_verdicts")

local TAG, REFUSE = 4, 9                              -- from these scores on

local own_headers = { "X-Spam-Flag", "X-Spam-Score", "X-Spam-Signs" }

-- score adds up the signs and names those that it found.
local function score(msg)
  local sum, signs = 0, {}
  local function sign(points, name)
    sum = sum + points
    signs[#signs + 1] = name
  end

  local listed = lists:score(msg.conn.ip)
  if listed ~= 0 then sign(listed, "dns_lists") end

  if not msg.conn.ptr then sign(1, "no_host_name") end
  if msg.header_from_count ~= 1 then sign(2, "from_fields") end
  if not msg:header("Date") then sign(1, "no_date") end
  if not msg:header("Message-ID") then sign(1, "no_message_id") end

  local subject = msg.subject or ""
  if #subject > 10 and subject == subject:upper() and subject:find("%a") then
    sign(1, "shouting")
  end
  for word in subject:gmatch("%w+") do
    if words:has(word) then
      sign(2, "word")
      break
    end
  end
  return sum, table.concat(signs, ", ")
end

on.headers("spam", function(msg)
  -- What a sender says of his own mail is no judgement.
  for _, name in ipairs(own_headers) do
    msg:remove_header(name)
  end
  if msg.conn.user or trusted:has(msg.conn.ip) then return end

  local sum, signs = score(msg)
  if sum >= REFUSE then
    seen:add(1, { verdict = "refused" })
    return reject(550, "5.7.1", "This message looks like spam (" .. msg.id .. ")")
  end

  msg:set_header("X-Spam-Score", string.format("%.1f", sum))
  if sum < TAG then
    seen:add(1, { verdict = "clean" })
    return
  end
  seen:add(1, { verdict = "tagged" })
  msg:set_header("X-Spam-Flag", "YES")
  msg:set_header("X-Spam-Signs", signs)
  local subject = msg:header("Subject") or ""         -- as it is written, encoded words and all
  if not subject:find("[SPAM]", 1, true) then
    msg:set_header("Subject", "[SPAM] " .. subject)
  end
end)
