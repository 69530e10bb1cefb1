-- 10-gate.lua: who may send to us, to whom, and how fast.
--
-- The lists lie beside this file and reload by themselves when they change:
--   blocked-senders.txt     addresses and domains that are refused
--   closed-recipients.txt   addresses that exist and take no mail from outside

local blocked = list("blocked-senders.txt")
local closed  = list("closed-recipients.txt")

-- One budget for all connections. A limit that refuses says 4xx: an honest
-- server comes back, and nothing is lost.
local per_sender = ratelimit("rcpt-per-sender", "120/1h", { burst = 60 })
local per_user   = ratelimit("rcpt-per-user", { "100/10m", "1000/1d" })

-- A server that calls itself by a bare address is none: RFC 5321 4.1.3 wants
-- brackets around it. The refusal waits for RCPT, so that the log names whom it
-- was for, and a postmaster can still be reached.
on.helo({ name = "bare address", at = "rcpt" }, function(conn)
  if not conn.user and conn.helo:find("^%d+%.%d+%.%d+%.%d+$") then
    return reject(550, "5.7.1", "Greet with a host name, not with the address " .. conn.helo)
  end
end)

on.rcpt("gate", function(msg, rcpt)
  if rcpt.postmaster or rcpt.user:lower() == "abuse" then
    return accept()                                   -- always reachable
  end

  local user = msg.conn.user
  if user then                                        -- logged in: only the rate matters
    local ok, wait = per_user:take(user)
    if not ok then
      return tempfail(452, "4.7.1", "You are sending too fast, try again in " .. wait .. " seconds")
    end
    return accept()
  end

  if blocked:has(msg.from) or blocked:has(msg.from_domain) then
    return reject(550, "5.7.1", "Mail from " .. msg.from .. " is refused here")
  end

  if closed:has(rcpt.address) then
    return reject(550, "5.2.1", rcpt.address .. " takes no mail from outside")
  end

  local ok, wait = per_sender:take(msg.sender_key)
  if not ok then
    return tempfail(450, "4.7.1", "Too many recipients, try again in " .. wait .. " seconds")
  end
end)
