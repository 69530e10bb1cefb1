-- 50-compliance.lua: what leaves the company.
--
-- Only for clients that have logged in, so for an MTA that asks as a milter. The lists lie beside this file:
--   our-domains.txt   domains that people here may write from, subdomains too
--   send-as.txt       who may write for whom, besides himself: "login other@address"

local inside  = ipset("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8", "127.0.0.0/8")
local ours    = domains("our-domains.txt")
local send_as = list("send-as.txt")

on.headers("author", function(msg)
  local user = msg.conn.user
  if not user then return end                         -- outgoing mail only

  -- The From field names the person who logged in, or someone they may write for.
  local from = msg.header_from
  if not from then
    return reject(550, "5.7.1", "A message needs exactly one From address")
  end
  if from:lower() ~= user:lower() and not send_as:has(user .. " " .. from) then
    return reject(550, "5.7.1", user .. " may not send as " .. from)
  end
  if not ours:has(msg.header_from_domain) then
    return reject(550, "5.7.1", msg.header_from_domain .. " is not one of our domains")
  end

  -- Bounces go back to the author; a bounce itself keeps its null sender.
  if msg.from ~= "" and msg.from:lower() ~= from:lower() then
    msg:set_from(from)
  end
end)

on.headers("traces", function(msg)
  if not msg.conn.user then return end

  -- No trace of the inner network or of the programs in it.
  msg:remove_header("X-Originating-IP")
  msg:remove_header("X-Mailer")
  msg:remove_header("User-Agent")
  msg:remove_header("Received", function(value)
    return inside:found_in(value)                     -- does the line name an inside address?
  end)

  msg:set_header("X-Confidentiality", "Internal rules apply: https://example.org/mail")
end)
