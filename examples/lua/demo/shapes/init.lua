-- Slow to load, so that the other threads come while it is half made; counts how often it is loaded.
loaded = (loaded or 0) + 1
local squares = {}
for n = 0, 200000 do
  squares[n % 10] = (n % 10) * (n % 10)
end
return { area = function(n) return squares[n] end }
