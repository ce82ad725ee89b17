-- Four threads that compute, one that sleeps, and one module that all of them import at once.
local threads, sums = {}, {}

for i = 1, 4 do
  threads[i] = spawn(function()
    local shapes = import("shapes")
    local sum = 0
    for n = 1, 50000 do
      sum = sum + shapes.area(n % 7)
    end
    sums[i] = sum
  end)
end
threads[5] = spawn(function()
  for _ = 1, 20 do
    sleep(0.001)
  end
end)
for _, thread in ipairs(threads) do
  thread:join()
end

local found, message = pcall(import, "no.such")
print("shapes was loaded " .. loaded .. " time; the GIL changed hands " .. switches() .. " times")
return { sums = sums, found = found, message = message }
